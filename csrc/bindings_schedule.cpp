// Draws of schedule.h, from addresses: kernels/schedule.py has checked what lies there.
#include <pybind11/pybind11.h>

#include "ahead.h"

namespace py = pybind11;

namespace fedfast {
namespace {

using Address = std::uintptr_t;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

DrawnLines lines_of(int64_t clients, int64_t steps, int64_t width, Address offsets) {
  return {clients, steps, width, at<const int64_t>(offsets)};
}

// A task, and the tensors whose addresses it was given. Python's, so that both end under its lock.
struct Held {
  Task task;
  py::object tensors;
  bool started = false;

  Held(std::unique_ptr<Draw> draw, py::object kept)
      : task(std::move(draw)), tensors(std::move(kept)) {}
};

std::unique_ptr<Held> cohort(py::object kept, uint64_t seed, uint32_t round, Address eligible,
                             int64_t population, int64_t exact, double chance, int64_t most,
                             Address out) {
  auto draw = std::make_unique<CohortDraw>();
  draw->streams = {seed, round};
  draw->eligible = at<const int64_t>(eligible);
  draw->population = population;
  draw->exact = exact;
  draw->chance = chance;
  draw->most = most;
  draw->out = at<int64_t>(out);
  return std::make_unique<Held>(std::move(draw), std::move(kept));
}

int64_t drawn(const Held& held) { return dynamic_cast<const CohortDraw&>(*held.task.draw).count; }

std::unique_ptr<Held> batches(py::object kept, uint64_t seed, uint32_t round,
                              const DrawnLines& lines, int64_t batch, bool whole, Address clients,
                              Address sizes, Address epochs, Address first, Address order,
                              Address rows, Address count) {
  auto draw = std::make_unique<BatchDraw>();
  draw->streams = {seed, round};
  draw->lines = lines;
  draw->batch = batch;
  draw->whole = whole;
  draw->clients = at<const int64_t>(clients);
  draw->sizes = at<const int64_t>(sizes);
  draw->epochs = at<const int64_t>(epochs);
  draw->first = at<const int64_t>(first);
  draw->order = at<const int64_t>(order);
  draw->rows = at<int64_t>(rows);
  draw->count = at<int32_t>(count);
  return std::make_unique<Held>(std::move(draw), std::move(kept));
}

std::unique_ptr<Held> crops(py::object kept, uint64_t seed, uint32_t round, const DrawnLines& lines,
                            Address clients, Address taken, int64_t pad, double chance,
                            bool mirrors, bool per_batch, Address offset, Address flip) {
  auto draw = std::make_unique<CropDraw>();
  draw->streams = {seed, round};
  draw->lines = lines;
  draw->clients = at<const int64_t>(clients);
  draw->taken = at<const int64_t>(taken);
  draw->pad = pad;
  draw->chance = chance;
  draw->mirrors = mirrors;
  draw->per_batch = per_batch;
  draw->offset = at<int32_t>(offset);
  draw->flip = at<bool>(flip);
  return std::make_unique<Held>(std::move(draw), std::move(kept));
}

std::unique_ptr<Held> seeds(py::object kept, uint64_t seed, uint32_t round, const DrawnLines& lines,
                            Address clients, Address taken, Address out) {
  auto draw = std::make_unique<SeedDraw>();
  draw->streams = {seed, round};
  draw->lines = lines;
  draw->clients = at<const int64_t>(clients);
  draw->taken = at<const int64_t>(taken);
  draw->seeds = at<int64_t>(out);
  return std::make_unique<Held>(std::move(draw), std::move(kept));
}

void run(Held& held) {
  if (held.started) throw py::value_error("this draw was given to a worker already");
  py::gil_scoped_release release;
  held.task.draw->run();
  held.task.done = true;
}

// A worker, and the draws that it was given and may still be at.
class Given {
 public:
  ~Given() { stop(); }

  void start(const py::object& draw) {
    auto& held = draw.cast<Held&>();
    if (held.started) throw py::value_error("this draw was given to a worker already");
    forget_done();
    draws_.append(draw);  // first: a task's memory must outlast it
    worker_.start(&held.task);
    held.started = true;
  }

  void finish(const py::object& draw) {
    auto& held = draw.cast<Held&>();
    if (!held.started) throw py::value_error("this draw was given to no worker");
    const py::gil_scoped_release release;
    worker_.finish(&held.task);
  }

  void stop() {
    {
      py::gil_scoped_release release;
      worker_.stop();
    }
    draws_ = py::list();
  }

 private:
  void forget_done() {
    py::list left;
    for (const py::handle draw : draws_) {
      if (!draw.cast<Held&>().task.done.load()) left.append(draw);
    }
    draws_ = left;
  }

  Worker worker_;
  py::list draws_;
};

}  // namespace

void bind_schedule(py::module_& m) {
  py::class_<DrawnLines>(m, "DrawnLines").def(py::init(&lines_of));
  py::class_<Held>(m, "Draw").def("run", &run).def("count", &drawn);
  m.def("draw_cohort", &cohort);
  m.def("draw_batches", &batches);
  m.def("draw_crops", &crops);
  m.def("draw_seeds", &seeds);
  py::class_<Given>(m, "DrawWorker")
      .def(py::init<>())
      .def("start", &Given::start)
      .def("finish", &Given::finish)
      .def("stop", &Given::stop);
}

}  // namespace fedfast
