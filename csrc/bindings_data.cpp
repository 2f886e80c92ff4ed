// The clients' data: addresses of arrays, and numpy's generators as capsules.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <tuple>

#include "dealing.h"
#include "pages.h"
#include "rounded_rows.h"

namespace py = pybind11;

namespace fedfast {
namespace {

const BitGenerator& bits_of(const py::capsule& generator) {
  return *static_cast<const BitGenerator*>(PyCapsule_GetPointer(generator.ptr(), "BitGenerator"));
}

template <typename T>
T* at(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

void deal_of(std::array<int64_t, 3> sizes, std::array<std::uintptr_t, 8> arrays,
             const py::capsule& classes_of, const std::optional<py::capsule>& turns,
             const std::optional<py::capsule>& again, bool starve, const py::object& exact,
             int threads) {
  Deal p;
  p.clients = sizes[0];
  p.classes = sizes[1];
  p.total = sizes[2];
  p.shares = at<const uint32_t>(arrays[0]);
  p.owned = at<const uint64_t>(arrays[1]);
  p.sizes = at<const int64_t>(arrays[2]);
  p.stacks = at<const int32_t>(arrays[3]);
  p.first = at<const int64_t>(arrays[4]);
  p.order = at<int32_t>(arrays[5]);
  p.filled = at<Filled>(arrays[6]);
  p.waiting = at<int32_t>(arrays[7]);
  p.classes_of = &bits_of(classes_of);
  p.turns = turns ? &bits_of(*turns) : nullptr;
  p.again = again ? &bits_of(*again) : nullptr;
  p.starve = starve;
  p.threads = threads;
  p.exact = [&](int64_t client, double* to) {
    py::gil_scoped_acquire held;
    const auto address = exact(client).cast<std::uintptr_t>();
    std::copy_n(at<const double>(address), p.classes, to);
  };
  py::gil_scoped_release release;
  deal(p);
}

void sort_of(int64_t samples, int64_t classes, std::uintptr_t labels, std::uintptr_t first,
             std::uintptr_t stacks) {
  py::gil_scoped_release release;
  sort_by_class(samples, classes, at<const int64_t>(labels), at<const int64_t>(first),
                at<int32_t>(stacks));
}

template <typename T>
void place_of(int threads, int64_t clients, std::uintptr_t counts, std::uintptr_t rows,
              std::uintptr_t from, std::uintptr_t order) {
  py::gil_scoped_release release;
  place(threads, clients, at<const T>(counts), at<const int32_t>(rows), at<int64_t>(from),
        at<int32_t>(order));
}

void widen_index_of(int64_t size, std::uintptr_t memory) {
  py::gil_scoped_release release;
  widen(size, at<int64_t>(memory));
}

void cut_of(int64_t clients, std::uintptr_t shares, int64_t count, std::uintptr_t sizes) {
  py::gil_scoped_release release;
  cut(clients, at<const double>(shares), count, at<uint32_t>(sizes));
}

void shuffle_of(int threads, const py::capsule& generator, int64_t size, std::uintptr_t values,
                bool narrow) {
  const BitGenerator& bits = bits_of(generator);
  py::gil_scoped_release release;
  narrow ? shuffle(threads, bits, size, at<int32_t>(values))
         : shuffle(threads, bits, size, at<int64_t>(values));
}

void choose_of(const py::capsule& generator, int64_t clients, int64_t classes, int64_t each,
               std::uintptr_t chosen) {
  const BitGenerator& bits = bits_of(generator);
  py::gil_scoped_release release;
  choose_each(bits, clients, classes, each, at<int32_t>(chosen));
}

void spread_of(const py::capsule& generator, int64_t clients, int64_t classes, int64_t each,
               std::uintptr_t order, std::uintptr_t has) {
  const BitGenerator& bits = bits_of(generator);
  py::gil_scoped_release release;
  spread_classes(bits, clients, classes, each, at<const int64_t>(order), at<uint8_t>(has));
}

int64_t will_need_of(std::uintptr_t base, int64_t row_bytes, std::uintptr_t rows, int64_t n) {
  py::gil_scoped_release release;
  return will_need(at<const char>(base), row_bytes, at<const int64_t>(rows), n);
}

void any_order_of(std::uintptr_t base, int64_t bytes) { any_order(at<const char>(base), bytes); }

// A table as (address, elements from row to row, address of the rows' numbers).
using Table = std::tuple<std::uintptr_t, int64_t, std::uintptr_t>;

template <typename T>
SomeRows<T> rows_of(const Table& table) {
  return {at<T>(std::get<0>(table)), std::get<1>(table), at<const int64_t>(std::get<2>(table))};
}

void round_of(const Table& from, const Table& to, int64_t n, int64_t width) {
  py::gil_scoped_release release;
  round_rows(rows_of<const float>(from), rows_of<uint16_t>(to), n, width);
}

void widen_of(const Table& from, const Table& to, int64_t n, int64_t width) {
  py::gil_scoped_release release;
  widen_rows(rows_of<const uint16_t>(from), rows_of<float>(to), n, width);
}

}  // namespace

void bind_data(py::module_& m) {
  m.def("deal", &deal_of);
  m.def("sort_by_class", &sort_of);
  m.def("cut", &cut_of);
  m.def("place8", &place_of<uint8_t>);
  m.def("place16", &place_of<uint16_t>);
  m.def("place32", &place_of<uint32_t>);
  m.def("widen", &widen_index_of);
  m.def("shuffle", &shuffle_of);
  m.def("choose_each", &choose_of);
  m.def("spread_classes", &spread_of);
  m.def("will_need", &will_need_of);
  m.def("any_order", &any_order_of);
  m.def("round_rows", &round_of);
  m.def("widen_rows", &widen_of);
}

}  // namespace fedfast
