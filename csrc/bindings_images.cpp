// Operations of images.h.
#include "bind.h"
#include "fields.h"

namespace py = pybind11;

namespace fedfast {
namespace {

// A window over x [.., H, W]; down and across: what the sides of its results are called.
template <typename... Path>
auto sides(const char* down, const char* across, Path... path) {
  return std::make_tuple(field("H", path..., &Window::height), field("W", path..., &Window::width),
                         field(down, path..., &Window::out_height),
                         field(across, path..., &Window::out_width));
}

template <typename... Path>
auto moves(Path... path) {
  return std::make_tuple(field("geometry.stride[0]", path..., &Window::sh),
                         field("geometry.stride[1]", path..., &Window::sw),
                         field("geometry.padding[0]", path..., &Window::ph),
                         field("geometry.padding[1]", path..., &Window::pw));
}

template <typename P>
auto conv_shape(const char* down, const char* across) {
  return std::tuple_cat(
      std::make_tuple(batch("B", &P::shape, &ConvShape::batch),
                      field("C", &P::shape, &ConvShape::inputs),
                      field("O", &P::shape, &ConvShape::outputs),
                      field("geometry.groups", &P::shape, &ConvShape::groups),
                      field("M", &P::shape, &ConvShape::window, &Window::kh),
                      field("N", &P::shape, &ConvShape::window, &Window::kw),
                      field("geometry.dilation[0]", &P::shape, &ConvShape::window, &Window::dh),
                      field("geometry.dilation[1]", &P::shape, &ConvShape::window, &Window::dw),
                      field("activation", &P::act)),
      sides(down, across, &P::shape, &ConvShape::window), moves(&P::shape, &ConvShape::window));
}

// Windows side by side over the results of a convolution, and the sides of these.
constexpr const char *kDown = "windows.planes[0]", *kAcross = "windows.planes[1]";
template <typename P>
auto pooled() {
  return std::make_tuple(
      field(kDown, &P::pool, &Window::height), field(kAcross, &P::pool, &Window::width),
      field("P", &P::pool, &Window::out_height), field("Q", &P::pool, &Window::out_width),
      field("windows.kernel[0]", &P::pool, &Window::kh),
      field("windows.kernel[1]", &P::pool, &Window::kw),
      field("windows.kernel[0]", &P::pool, &Window::sh),
      field("windows.kernel[1]", &P::pool, &Window::sw), F(tap));
}

template <typename P>
auto conv_operands(const char* down, const char* across) {
  return std::tuple_cat(conv_shape<P>(down, across),
                        std::make_tuple(F(x), F(weight), F(bias), F(out)));
}

template <typename P>
auto conv_gradients(const char* down, const char* across) {
  return std::tuple_cat(conv_shape<P>(down, across),
                        std::make_tuple(F(x), F(weight), F(out), F(dout), F(dx), F(dweight),
                                        F(dbias), F(alpha), F(beta), F(base_weight), F(base_bias)));
}

template <typename P>
auto pool_shape() {
  return std::tuple_cat(std::make_tuple(batch("B * C", &P::planes), F(kind),
                                        field("kernel[0]", &P::window, &Window::kh),
                                        field("kernel[1]", &P::window, &Window::kw),
                                        field("count_include_pad", &P::count_padding)),
                        sides("P", "Q", &P::window), moves(&P::window));
}

template <typename P>
auto norm_shape() {
  return std::make_tuple(batch("B", &P::shape, &NormShape::batch),
                         field("C", &P::shape, &NormShape::channels),
                         field("rest", &P::shape, &NormShape::inner));
}

template <typename P>
auto norm_gradients() {
  return std::tuple_cat(norm_shape<P>(), std::make_tuple(F(x), F(weight), F(dout), F(mean), F(rstd),
                                                         F(dx), F(dweight), F(dbias), F(alpha),
                                                         F(beta), F(base_weight), F(base_bias)));
}

}  // namespace

void bind_images(py::module_& m) {
  bind<Conv>(m, "conv", LISTS(Conv, conv_operands<P>("P", "Q")), RUN(conv));
  bind<Conv>(m, "conv_pool", LISTS(Conv, conv_operands<P>(kDown, kAcross), pooled<P>()), RUN(conv));
  bind<ConvBackward>(m, "conv_backward", LISTS(ConvBackward, conv_gradients<P>("P", "Q")),
                     RUN(conv_backward));
  bind<ConvBackward>(m, "conv_pool_backward",
                     LISTS(ConvBackward, conv_gradients<P>(kDown, kAcross), pooled<P>()),
                     RUN(conv_backward));
  bind<Pick>(
      m, "pick",
      LISTS(Pick, sides("P", "Q", &P::window),
            std::make_tuple(
                batch("B * C", &P::planes), field("windows.kernel[0]", &P::window, &Window::kh),
                field("windows.kernel[1]", &P::window, &Window::kw), F(x), F(tap), F(out))),
      RUN(pick));
  bind<Pool>(m, "pool", LISTS(Pool, pool_shape<P>(), std::make_tuple(F(x), F(out), F(argmax))),
             RUN(pool));
  bind<PoolBackward>(
      m, "pool_backward",
      LISTS(PoolBackward, pool_shape<P>(), std::make_tuple(F(dout), F(dx), F(argmax))),
      RUN(pool_backward));
  bind<AdaptivePool>(m, "adaptive_avg",
                     LISTS(AdaptivePool, sides("P", "Q", &P::window),
                           std::make_tuple(batch("B * C", &P::planes), field("x", &P::from),
                                           field("out", &P::to))),
                     RUN(adaptive_avg));
  bind<AdaptivePool>(m, "adaptive_avg_backward",
                     LISTS(AdaptivePool, sides("P", "Q", &P::window),
                           std::make_tuple(batch("B * C", &P::planes), field("dout", &P::from),
                                           field("dx", &P::to))),
                     RUN(adaptive_avg_backward));
  bind<BatchNorm>(
      m, "batch_norm",
      LISTS(BatchNorm, norm_shape<P>(),
            std::make_tuple(F(x), F(weight), F(bias), F(running_mean), F(running_var), F(count),
                            F(training), F(momentum), F(eps), F(out), F(mean), F(rstd))),
      RUN(batch_norm));
  bind<NormBackward>(
      m, "batch_norm_backward",
      LISTS(NormBackward, norm_gradients<P>(), std::make_tuple(F(count), F(training))),
      RUN(batch_norm_backward));
  bind<GroupNorm>(m, "group_norm",
                  LISTS(GroupNorm, norm_shape<P>(),
                        std::make_tuple(field("groups", &P::shape, &NormShape::groups), F(x),
                                        F(weight), F(bias), F(eps), F(out), F(mean), F(rstd))),
                  RUN(group_norm));
  bind<NormBackward>(m, "group_norm_backward",
                     LISTS(NormBackward, norm_gradients<P>(),
                           std::make_tuple(field("groups", &P::shape, &NormShape::groups))),
                     RUN(group_norm_backward));
}

}  // namespace fedfast
