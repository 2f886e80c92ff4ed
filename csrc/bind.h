// Binds operations to Python: for each one a list of its struct's fields, from which come decoding,
// the search for overlapping memory, the shift to a part's clients, and the names that
// kernels/native.py compares with the declaration.
//
// A call has (float64?, K, threads, apart?, one object for each field): tensors as they are, of
// which address, client stride and number of elements are read. It answers whether all indices were
// in range, or None where memory that is written may be other operands' (unless told that all lie
// apart): nothing is done then, and Python looks again and names the arguments.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "fedfast.h"
#include "images.h"
#include "layers.h"
#include "plan.h"

namespace fedfast {

// The way to a field: its name, a Python expression over declared arguments and letters of shapes,
// and members from the struct inwards. `shared` memory is the same for all clients.
template <typename... Path>
struct Field {
  const char* name;
  std::tuple<Path...> path;
  bool shared;

  template <typename P>
  auto& of(P& p) const {
    return std::apply([&p](auto... member) -> auto& { return (p.*....*member); }, path);
  }
};

template <typename... Path>
constexpr Field<Path...> field(const char* name, Path... path) {
  return {name, {path...}, false};
}
template <typename... Path>
constexpr Field<Path...> shared(const char* name, Path... path) {
  return {name, {path...}, true};
}

// [K, ...] of any dtype, its stride in bytes.
struct Bytes {
  char* data = nullptr;
  int64_t stride = 0;
};

// An operation on rows of S elements.
template <typename P>
struct Rows : P {
  int64_t size = 0;
};

// ----- what kinds of fields are called, for the comparison in Python

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

// ----- memory that an operation touches

struct Extent {
  int field;
  bool written;
  std::uintptr_t start, stop;  // of all clients
  int64_t clients, size, pitch, item;

  bool crosses(const Extent& other) const { return start < other.stop && other.start < stop; }
  // Between the runs of one lie those of the other, as columns of one bank do.
  bool between(const Extent& other) const {
    if (pitch != other.pitch || pitch < size || pitch < other.size) return false;
    const int64_t gap = static_cast<int64_t>(other.start - start) % pitch;
    const int64_t apart = gap < 0 ? gap + pitch : gap;
    return size <= apart && apart <= pitch - other.size;
  }
  bool same(const Extent& other) const {
    return start == other.start && size == other.size && item == other.item &&
           clients == other.clients && (clients == 1 || pitch == other.pitch);
  }
};

class Memory {
 public:
  Memory(int64_t clients, bool wanted) : clients_(clients), wanted_(wanted) {}

  bool wanted() const { return wanted_; }
  void at(int field) { field_ = field; }

  // `count` elements of `item` bytes in all; `pitch` elements from client to client.
  template <typename T>
  void add(T* data, int64_t count, int64_t item, bool split, int64_t pitch) {
    if (!wanted_ || data == nullptr || count == 0) return;
    if (count_ == kMost) throw std::length_error("an operation has too many tensors");
    const int64_t clients = split ? clients_ : 1;
    const int64_t size = count / clients * item;
    const auto start = reinterpret_cast<std::uintptr_t>(data);
    const auto stop = start + (clients - 1) * pitch * item + size;
    extents_[count_++] = {field_, !std::is_const_v<T>, start, stop, clients,
                          size,   pitch * item,        item};
  }

  // may[field]: bits of the fields that may be exactly the memory that `field` writes.
  bool suspected(const std::vector<uint64_t>& may) const {
    for (int i = 0; i < count_; ++i) {
      const Extent& to = extents_[i];
      if (!to.written) continue;
      if (to.clients > 1 && to.pitch < to.size) return true;
      for (int j = 0; j < count_; ++j) {
        const Extent& other = extents_[j];
        if (i == j || !to.crosses(other) || to.between(other)) continue;
        if (!(may[to.field] >> other.field & 1) || !to.same(other)) return true;
      }
    }
    return false;
  }

 private:
  static constexpr int kMost = 64;

  int64_t clients_;
  bool wanted_;
  int field_ = 0, count_ = 0;
  Extent extents_[kMost];
};

// ----- Python objects into fields

// Interned names of what is asked of tensors.
struct Asked {
  PyObject *data_ptr, *stride, *numel, *element_size, *zero, *one;
  static const Asked& names();
};

int64_t whole(PyObject* value);
std::uintptr_t address(PyObject* tensor);
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

// ----- a part's clients

template <typename T>
void shift(T&, bool, int64_t) {}
template <typename T>
void shift(Bank<T>& bank, bool, int64_t first) {
  if (bank.data) bank.data += first * bank.stride;
}
template <typename T>
void shift(T*& data, bool shared, int64_t first) {
  if constexpr (!std::is_void_v<T>) {
    if (data && !shared) data += first;
  }
}
inline void shift(Bytes& bytes, bool, int64_t first) {
  if (bytes.data) bytes.data += first * bytes.stride;
}
inline void shift(Slots (&slots)[2], bool shared, int64_t first) {
  for (Slots& each : slots) shift(each.rows, shared, first);
}

// Most steps of a client that an operation has numbers for.
template <typename P>
int64_t steps_of(const P&) {
  return std::numeric_limits<int64_t>::max();
}
inline int64_t steps_of(const Feed& p) { return p.steps; }

// ----- an operation

class Bound {
 public:
  explicit Bound(const char* name) : name_(name) {}
  virtual ~Bound() = default;
  virtual PyObject* call(PyObject* const* args) const = 0;
  virtual size_t size() const = 0;            // number of fields
  virtual pybind11::list fields() const = 0;  // (name, kind) of each

  // Fields, as bits, that may be exactly the memory that `field` writes.
  void may(size_t field, uint64_t others) { may_.at(field) = others; }

  // Makes it a function of the module, for good.
  static void add(pybind11::module_& m, std::unique_ptr<Bound> bound);
  static const std::map<std::string, Bound*>& all() { return registered(); }

 protected:
  const char* name_;
  std::vector<uint64_t> may_;

 private:
  static std::map<std::string, Bound*>& registered();
  static PyObject* enter(PyObject* self, PyObject* const* args, Py_ssize_t count);

  PyMethodDef method_{};
};

// list   list(T{}) is the tuple of fields for that dtype
// run    run(part, p) does the operation; what it returns, if anything: were all indices in range?
// plans  whether it may be recorded in a plan; operations that spread a client over threads may not
template <template <typename> class P, typename List, typename Run>
class BoundTo final : public Bound {
 public:
  BoundTo(const char* name, List list, Run run, bool plans)
      : Bound(name), list_(list), run_(run), plans_(plans) {
    may_.resize(size());
  }

  PyObject* call(PyObject* const* args) const override {
    return args[0] == Py_True ? call_as<double>(args) : call_as<float>(args);
  }

  size_t size() const override { return std::tuple_size_v<decltype(list_(float{}))>; }

  pybind11::list fields() const override {
    pybind11::list found;
    P<float> p;
    each(list_(float{}), [&](const auto& field, int) {
      using F = std::remove_reference_t<decltype(field.of(p))>;
      found.append(pybind11::make_tuple(field.name, Kind<F>::name()));
    });
    return found;
  }

 private:
  template <typename Fields, typename Do>
  static void each(const Fields& fields, const Do& todo) {
    std::apply(
        [&](const auto&... field) {
          int i = 0;
          (todo(field, i++), ...);
        },
        fields);
  }

  template <typename T>
  PyObject* call_as(PyObject* const* args) const {
    const int64_t clients = whole(args[1]);
    Memory memory(clients, args[3] != Py_True);
    P<T> p;
    each(list_(T{}), [&](const auto& field, int i) {
      memory.at(i);
      decode(args[4 + i], field.of(p), field.shared, memory);
    });
    if (memory.suspected(may_)) Py_RETURN_NONE;
    const auto action = [list = list_, run = run_, p](const Part& part) {
      P<T> own = p;
      each(list(T{}),
           [&](const auto& field, int) { shift(field.of(own), field.shared, part.first); });
      if constexpr (std::is_void_v<decltype(run(part, own))>) {
        return run(part, own), true;
      } else {
        return run(part, own);
      }
    };
    if (Plan* plan = Plan::noting()) {
      if (!plans_) throw pybind11::type_error("this operation cannot be part of a plan");
      plan->note(action, clients, steps_of(p));
      Py_RETURN_TRUE;
    }
    const Part all{0, clients, static_cast<int>(whole(args[2]))};
    bool fine;
    {
      pybind11::gil_scoped_release release;
      fine = action(all);
    }
    return PyBool_FromLong(fine);
  }

  List list_;
  Run run_;
  bool plans_;
};

template <template <typename> class P, typename List, typename Run>
void bind(pybind11::module_& m, const char* name, List list, Run run, bool plans = true) {
  Bound::add(m, std::make_unique<BoundTo<P, List, Run>>(name, list, run, plans));
}

}  // namespace fedfast
