// How a binding hands its operation on: at once, or noted in a plan for later. Operations are given
// as functions of a `Part`, which shift every address by that part's first client.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <tuple>
#include <type_traits>
#include <utility>

#include "fedfast.h"
#include "plan.h"

namespace fedfast {

using Address = std::uintptr_t;
using Operand = std::pair<Address, int64_t>;     // address, client stride
using Problem = std::tuple<bool, int64_t, int>;  // float64?, K, threads

// [K] numbers from a part's first client on; null stays null.
template <typename T>
T* at(const Part& part, Address address) {
  return address == 0 ? nullptr : reinterpret_cast<T*>(address) + part.first;
}

// The same of a bank.
template <typename T>
Bank<T> bank(const Part& part, const Operand& operand) {
  const auto [address, stride] = operand;
  if (address == 0) return {};
  return {reinterpret_cast<T*>(address) + part.first * stride, stride};
}

// Calls run(part, T{}) for the dtype asked for, without the GIL, or notes it. What run returns, if
// anything, is whether all indices were in range.
template <typename Run>
bool dispatch(const Problem& problem, const Run& run) {
  const auto [wide, clients, threads] = problem;
  const auto one = [run](const Part& part, auto zero) {
    if constexpr (std::is_void_v<decltype(run(part, zero))>) {
      return run(part, zero), true;
    } else {
      return run(part, zero);
    }
  };
  const bool doubles = wide;
  const auto action = [one, doubles](const Part& part) {
    return doubles ? one(part, double{}) : one(part, float{});
  };
  if (Plan* plan = Plan::noting()) return plan->note(action, clients), true;
  pybind11::gil_scoped_release release;
  return action(Part{0, clients, threads});
}

}  // namespace fedfast
