// Python objects into the fields of operations' structs.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>

#include "fedfast.h"
#include "images.h"
#include "layers.h"
#include "memory.h"

namespace fedfast {

// [K, ...] of any dtype, its stride in bytes.
struct Bytes {
  char* data = nullptr;
  int64_t stride = 0;
};

// What kinds of fields are called, for the comparison with the declaration.

template <typename T>
struct Kind;
#define FEDFAST_KIND(type, text)               \
  template <>                                  \
  struct Kind<type> {                          \
    static std::string name() { return text; } \
  }
FEDFAST_KIND(float, "float");
FEDFAST_KIND(double, "double");
FEDFAST_KIND(bool, "bool");
FEDFAST_KIND(int64_t, "int64");
FEDFAST_KIND(uint64_t, "uint64");
FEDFAST_KIND(int32_t, "int32");
FEDFAST_KIND(uint32_t, "uint32");
FEDFAST_KIND(uint8_t, "uint8");
FEDFAST_KIND(void, "bytes");
FEDFAST_KIND(Act, "choice none relu tanh gelu silu leaky_relu sigmoid relu6");
FEDFAST_KIND(Rule, "choice none average momentum adam yogi adagrad");
FEDFAST_KIND(PoolKind, "choice avg max");
FEDFAST_KIND(Segments, "layers");
FEDFAST_KIND(Server, "server");
FEDFAST_KIND(Bytes, "out bytes");
#undef FEDFAST_KIND
template <typename T>
struct Kind<const T> : Kind<T> {};
template <typename T>
struct Kind<std::optional<T>> : Kind<T> {};
template <typename T>
struct Kind<Terms<T>> {
  static std::string name() { return "terms"; }
};
template <>
struct Kind<Slots[2]> {
  static std::string name() { return "in double"; }
};
template <typename T>
struct Kind<Bank<T>> {
  static std::string name() { return (std::is_const_v<T> ? "in " : "out ") + Kind<T>::name(); }
};
template <typename T>
struct Kind<T*> : Kind<Bank<T>> {};
template <typename T>
struct Kind<Placed<T>> : Kind<Bank<T>> {};
template <typename T>
struct Kind<Columns<T>> : Kind<Bank<T>> {};

// Interned names of what is asked of tensors.
struct Asked {
  PyObject *data_ptr, *stride, *numel, *element_size, *zero, *one, *table, *places;
  static const Asked& names();
};

// The class of operands whose rows are a table's (kernels/placed.py), once Python has named it.
PyObject*& placed_rows();

int64_t whole(PyObject* value);
std::uintptr_t address(PyObject* tensor);
std::uintptr_t address_of(PyObject* owner, PyObject* attribute, int64_t* stride);
int64_t stride(PyObject* tensor, PyObject* dimension);
int64_t asked(PyObject* tensor, PyObject* method);

template <typename T>
std::enable_if_t<std::is_integral_v<T> || std::is_enum_v<T>> decode(PyObject* from, T& to, bool,
                                                                    Memory&) {
  to = static_cast<T>(whole(from));
}
inline void decode(PyObject* from, bool& to, bool, Memory&) {
  const int truth = PyObject_IsTrue(from);
  if (truth < 0) throw pybind11::error_already_set();
  to = truth != 0;
}
template <typename T>
std::enable_if_t<std::is_floating_point_v<T>> decode(PyObject* from, T& to, bool, Memory&) {
  const double value = PyFloat_AsDouble(from);
  if (value == -1 && PyErr_Occurred()) throw pybind11::error_already_set();
  to = static_cast<T>(value);
}
template <typename T>
void decode(PyObject* from, std::optional<T>& to, bool shared, Memory& memory) {
  if (from == Py_None) return;
  decode(from, to.emplace(), shared, memory);
}

// A client's part of a bank is contiguous.
template <typename T>
void decode(PyObject* from, Bank<T>& to, bool, Memory& memory) {
  if (from == Py_None) return;
  to = {reinterpret_cast<T*>(address(from)), stride(from, Asked::names().zero)};
  if (memory.wanted()) {
    memory.add(to.data, asked(from, Asked::names().numel), sizeof(T), true, to.stride);
  }
}
template <typename T>
void decode(PyObject* from, Placed<T>& to, bool shared, Memory& memory) {
  if (reinterpret_cast<PyObject*>(Py_TYPE(from)) != placed_rows()) {
    Bank<T> bank;
    decode(from, bank, shared, memory);
    to = bank;
    return;
  }
  to.data = reinterpret_cast<T*>(address_of(from, Asked::names().table, &to.stride));
  int64_t one;
  to.places = reinterpret_cast<const int64_t*>(address_of(from, Asked::names().places, &one));
  memory.suspect();  // rows in any order: Python looks at each
}
template <typename T>
void decode(PyObject* from, Columns<T>& to, bool, Memory& memory) {
  to = {reinterpret_cast<T*>(address(from)), stride(from, Asked::names().zero)};
  memory.suspect();  // its runs are no clients': Python looks at each
}
// [K] numbers side by side, or what all clients share.
template <typename T>
void decode(PyObject* from, T*& to, bool shared, Memory& memory) {
  if (from == Py_None) return;
  to = reinterpret_cast<T*>(address(from));
  if (!memory.wanted()) return;
  int64_t item;
  if constexpr (std::is_void_v<T>) {
    item = asked(from, Asked::names().element_size);
  } else {
    item = sizeof(T);
  }
  const int64_t count = asked(from, Asked::names().numel);
  memory.add(to, count, item, false, 0);
}
template <typename T>
void decode(PyObject* from, Terms<T>& to, bool shared, Memory& memory) {
  const auto list = pybind11::reinterpret_borrow<pybind11::sequence>(from);
  const size_t count = list.size();
  if (count == 0 || count > kMaxTerms) throw pybind11::value_error("terms: expected 1 to 8");
  for (size_t j = 0; j < count; ++j) {
    const pybind11::object pair = list[j];
    decode(PyTuple_GetItem(pair.ptr(), 0), to.d[j], shared, memory);
    decode(PyTuple_GetItem(pair.ptr(), 1), to.c[j], shared, memory);
  }
  to.count = static_cast<int>(count);
}
void decode(PyObject* from, Bytes& to, bool, Memory& memory);
void decode(PyObject* from, Segments& to, bool shared, Memory& memory);
void decode(PyObject* from, Server& to, bool, Memory&);
void decode(PyObject* from, Slots (&to)[2], bool shared, Memory& memory);

}  // namespace fedfast
