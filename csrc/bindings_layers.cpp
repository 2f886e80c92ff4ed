// Operations of layers.h.
#include "bind.h"
#include "cpu/gemm_kernels.h"
#include "fields.h"

namespace py = pybind11;

namespace fedfast {
namespace {

// Samples of bytes as they are, or images of them as numbers where there is a scale.
template <typename T>
struct GatherSamples : Gather {
  const void* bank = nullptr;  // [n, ...]
  int64_t element_bytes = 0;
  Look<T> look;
  Bank<const int32_t> offset;
  Bank<const uint8_t> flip;
  Bytes out;
};

template <typename T>
bool gather(const Part& part, GatherSamples<T>& p) {
  if (p.look.scale == nullptr) {
    return gather_bytes(part.clients, part.threads, p, static_cast<const char*>(p.bank),
                        p.element_bytes, {p.out.data, p.out.stride});
  }
  p.look.offset = p.offset.data;
  p.look.flip = p.flip.data;
  const Bank<T> out{reinterpret_cast<T*>(p.out.data), p.out.stride / int64_t{sizeof(T)}};
  return gather_images(part.clients, part.threads, p, p.look, static_cast<const uint8_t*>(p.bank),
                       out);
}

}  // namespace

void bind_layers(py::module_& m) {
  bind<LinearForward>(
      m, "linear",
      FIELDS(LinearForward, batch("B", &P::batch), field("I", &P::inputs), field("O", &P::outputs),
             F(x), F(weight), F(bias), field("activation", &P::act), F(out)),
      RUN(linear));
  bind<LinearBackward>(
      m, "linear_backward",
      FIELDS(LinearBackward, batch("B", &P::batch), field("I", &P::inputs), field("O", &P::outputs),
             F(x), F(weight), F(out), F(dout), field("activation", &P::act), F(dx), F(dweight),
             F(dbias), F(alpha), F(beta), F(base_weight), F(base_bias), F(gamma), F(add_weight),
             F(add_bias)),
      RUN(linear_backward));
  bind<Joined>(
      m, "joined",
      FIELDS(Joined, batch("B", &P::batch), field("I", &P::inputs), field("O", &P::outputs), F(x),
             F(d), F(ones), F(add_weight), F(add_bias), F(known), F(added), F(limit), F(squares)),
      RUN(joined));
  bind<Ghost>(m, "ghost",
              FIELDS(Ghost, batch("B", &P::batch), field("I", &P::inputs), field("O", &P::outputs),
                     F(x), F(d), F(ones), F(gram), F(squares)),
              RUN(ghost));
  bind<LowRank>(
      m, "lowrank",
      FIELDS(LowRank, batch("B", &P::batch), field("I", &P::inputs), field("O", &P::outputs), F(x),
             F(u), F(v), F(scale), F(ones), F(gram), F(base), field("activation", &P::act), F(out)),
      RUN(lowrank));
  bind<Reach>(m, "reach", FIELDS(Reach, F(squares), F(rho), F(eps), F(most), F(radii), F(out)),
              [](const Part& part, const auto& p) { reach(part.clients, p); });
  bind<LayerReach>(
      m, "layer_reach",
      FIELDS(LayerReach, field("L", &P::layers), F(rho), F(squares), F(eps), F(limit), F(out)),
      [](const Part& part, const auto& p) { layer_reach(part.clients, p); });
  bind<ActivationForward>(m, "activation",
                          FIELDS(ActivationForward, batch("rest", &P::size), F(x),
                                 field("kind", &P::act), F(slope), F(out)),
                          RUN(activation));
  bind<ActivationBackward>(m, "activation_backward",
                           FIELDS(ActivationBackward, batch("rest", &P::size), F(x), F(out),
                                  F(dout), field("kind", &P::act), F(slope), F(dx)),
                           RUN(activation_backward));
  bind<CrossEntropy>(m, "cross_entropy",
                     FIELDS(CrossEntropy, batch("B", &P::batch), field("C", &P::classes), F(logits),
                            F(targets), F(count), F(losses), F(dlogits)),
                     RUN(cross_entropy));
  bind<KlGradient>(m, "kl_gradient",
                   FIELDS(KlGradient, batch("B", &P::batch), field("C", &P::classes), F(logits),
                          F(before), F(count), F(scale), F(out)),
                   RUN(kl_gradient));
  bind<SampleGaussian>(
      m, "sample_gaussian",
      FIELDS(SampleGaussian, batch("B", &P::batch), field("D", &P::size), F(samples), F(h),
             F(noise), F(targets), F(count), F(alpha), F(z), F(labels), F(counts)),
      RUN(sample_gaussian));
  bind<SampleGaussianBackward>(
      m, "sample_gaussian_backward",
      FIELDS(SampleGaussianBackward, batch("B", &P::batch), field("D", &P::size), F(samples),
             field("C", &P::classes), F(h), F(noise), F(dz), F(targets), F(count), F(mean),
             F(spread), F(alpha), F(beta), F(losses), F(dh)),
      RUN(sample_gaussian_backward));
  bind<SumGaussians>(
      m, "sum_gaussians",
      FIELDS(SumGaussians, batch("B", &P::batch), field("D", &P::size), field("C", &P::classes),
             F(h), F(targets), F(count), F(last), F(alpha), F(precision), F(pull)),
      RUN(sum_gaussians));
  bind<GatherSamples>(
      m, "gather",
      FIELDS(GatherSamples, field("N", &P::samples), batch("B", &P::batch),
             field("sizes[0]", &P::channels), field("sizes[1]", &P::height),
             field("sizes[2]", &P::width), shared("bank", &P::bank),
             field("bank.element_size()", &P::element_bytes), F(rows),
             shared("scale", &P::look, &Look<T>::scale), shared("shift", &P::look, &Look<T>::shift),
             shared("margin", &P::look, &Look<T>::margin), F(offset), F(flip), F(out)),
      [](const Part& part, auto& p) { return gather(part, p); });
  m.def("gemm_isa", [] { return static_cast<int>(gemm_isa()); });
  m.def("gemm_limit", [](int isa) { gemm_limit(static_cast<Isa>(isa)); });
}

}  // namespace fedfast
