// Draws of schedule.h, from addresses: kernels/schedule.py has checked what lies there.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>
#include <tuple>

#include "ahead.h"

namespace py = pybind11;

namespace fedfast {
namespace {

using Address = std::uintptr_t;
using Ints = py::array_t<int64_t, py::array::c_style>;

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

CohortDraw cohort_of(uint64_t seed, uint32_t round, const Ints& eligible, double chance,
                     int64_t exact, int64_t most, Ints& out) {
  CohortDraw draw;
  draw.streams = {seed, round};
  draw.eligible = eligible.data();
  draw.population = eligible.size();
  draw.exact = exact;
  draw.chance = chance;
  draw.most = most;
  draw.out = out.mutable_data();
  return draw;
}

Ints chosen(uint64_t seed, uint32_t round, const Ints& eligible, int64_t exact) {
  if (exact < 0 || exact > eligible.size()) {
    throw py::value_error("m: expected 0 <= m <= " + std::to_string(eligible.size()) +
                          ", the number of ids; got " + std::to_string(exact));
  }
  Ints out(exact);
  CohortDraw draw = cohort_of(seed, round, eligible, 0, exact, exact, out);
  const py::gil_scoped_release release;
  draw.run();
  return out;
}

Ints tossed(uint64_t seed, uint32_t round, const Ints& eligible, double chance, int64_t most) {
  Ints out(std::max<int64_t>(most, 0));
  CohortDraw draw = cohort_of(seed, round, eligible, chance, -1, out.size(), out);
  {
    const py::gil_scoped_release release;
    draw.run();
  }
  out.resize({draw.count}, false);
  return out;
}

void check_clients(const Ints& clients) {
  const int64_t* id = clients.data();
  for (int64_t k = 0; k < clients.size(); ++k) {
    if (id[k] < 0 || id[k] >= int64_t{1} << 32) {
      throw py::value_error("client: expected values in [0, 2^32); got " + std::to_string(id[k]));
    }
  }
}

void check_each(const char* name, const Ints& numbers, int64_t clients) {
  if (numbers.ndim() == 1 && numbers.size() == clients) return;
  throw py::value_error(std::string(name) + ": expected [" + std::to_string(clients) + "]; got " +
                        std::to_string(numbers.size()) + " numbers in " +
                        std::to_string(numbers.ndim()) + " dimensions");
}

// Whose batches are drawn.
struct Who {
  const Ints &ids, &sizes, &epochs;
  const std::optional<Ints>& owners;
};

BatchDraw batches_of(const Streams& streams, const DrawnLines& lines,
                     const std::tuple<int64_t, bool>& cut, const Who& who, Address begins,
                     Address order) {
  check_each("clients", who.ids, lines.clients);
  check_each("sizes", who.sizes, lines.clients);
  check_each("epochs", who.epochs, lines.clients);
  check_clients(who.ids);
  BatchDraw draw;
  draw.streams = streams;
  draw.lines = lines;
  std::tie(draw.batch, draw.whole) = cut;
  draw.clients = who.ids.data();
  draw.sizes = who.sizes.data();
  draw.epochs = who.epochs.data();
  if (who.owners) {
    check_each("owners", *who.owners, lines.clients);
    draw.owners = who.owners->data();
    draw.begins = at<const int64_t>(begins);
    draw.order = at<const int64_t>(order);
  }
  return draw;
}

// (the draw, rows, count): a draw of these clients' batches, and the arrays that it will write.
py::tuple batches(const py::object& kept, uint64_t seed, uint32_t round, int64_t clients,
                  int64_t steps, int64_t width, Address offsets, int64_t total,
                  std::tuple<int64_t, bool> cut, const Ints& ids, const Ints& sizes,
                  const Ints& epochs, const std::optional<Ints>& owners, Address begins,
                  Address order) {
  Ints rows({total, width});
  py::array_t<int32_t> count(total);
  const DrawnLines lines = lines_of(clients, steps, width, offsets);
  auto draw = std::make_unique<BatchDraw>(
      batches_of({seed, round}, lines, cut, {ids, sizes, epochs, owners}, begins, order));
  draw->rows = rows.mutable_data();
  draw->count = count.mutable_data();
  auto all = py::make_tuple(kept, ids, sizes, epochs, owners, rows, count);
  return py::make_tuple(std::make_unique<Held>(std::move(draw), std::move(all)), rows, count);
}

// The same, made at once, in memory that is there: rows and count have room for all lines.
void write_batches(uint64_t seed, uint32_t round, std::tuple<int64_t, int64_t, int64_t> size,
                   Address offsets, std::tuple<int64_t, bool> cut, const Ints& ids,
                   const Ints& sizes, const Ints& epochs, const std::optional<Ints>& owners,
                   Address begins, Address order, Address rows, Address count) {
  const auto [clients, steps, width] = size;
  const DrawnLines lines = lines_of(clients, steps, width, offsets);
  BatchDraw draw =
      batches_of({seed, round}, lines, cut, {ids, sizes, epochs, owners}, begins, order);
  draw.rows = at<int64_t>(rows);
  draw.count = at<int32_t>(count);
  const py::gil_scoped_release release;
  draw.run();
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
  const auto ints = [](const char* name) { return py::arg(name).noconvert(); };
  py::class_<Held>(m, "Draw").def("run", &run);
  m.def("chosen", &chosen, py::arg("seed"), py::arg("round"), ints("eligible"), py::arg("m"));
  m.def("tossed", &tossed, py::arg("seed"), py::arg("round"), ints("eligible"), py::arg("chance"),
        py::arg("most"));
  m.def("draw_batches", &batches, py::arg("kept"), py::arg("seed"), py::arg("round"),
        py::arg("clients"), py::arg("steps"), py::arg("width"), py::arg("offsets"),
        py::arg("total"), py::arg("cut"), ints("ids"), ints("sizes"), ints("epochs"),
        ints("owners"), py::arg("begins"), py::arg("order"));
  m.def("write_batches", &write_batches, py::arg("seed"), py::arg("round"), py::arg("size"),
        py::arg("offsets"), py::arg("cut"), ints("ids"), ints("sizes"), ints("epochs"),
        ints("owners"), py::arg("begins"), py::arg("order"), py::arg("rows"), py::arg("count"));
  m.def("draw_crops", &crops);
  m.def("draw_seeds", &seeds);
  py::class_<Given>(m, "DrawWorker")
      .def(py::init<>())
      .def("start", &Given::start)
      .def("finish", &Given::finish)
      .def("stop", &Given::stop);
}

}  // namespace fedfast
