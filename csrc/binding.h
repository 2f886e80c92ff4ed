// How Python hands over operands: addresses, client strides and sizes.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <tuple>
#include <utility>

#include "fedfast.h"

namespace fedfast {

using Address = std::uintptr_t;
using Operand = std::pair<Address, int64_t>;     // address, client stride
using Problem = std::tuple<bool, int64_t, int>;  // float64?, K, threads

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

template <typename T>
Bank<T> bank(const Operand& operand) {
  return {at<T>(operand.first), operand.second};
}

// Calls run(clients, threads, T{}) for the dtype asked for, without the GIL.
template <typename Run>
void dispatch(const Problem& problem, const Run& run) {
  const auto [wide, clients, threads] = problem;
  pybind11::gil_scoped_release release;
  wide ? run(clients, threads, double{}) : run(clients, threads, float{});
}

}  // namespace fedfast
