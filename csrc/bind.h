// Binds operations to Python: for each one a list of its struct's fields, from which come decoding,
// the search for overlapping memory, the shift to a part's clients, and the names that
// kernels/native.py compares with the declaration.
//
// A call has (float64?, K, threads, apart?, one object for each field): tensors as they are, of
// which address, client stride and number of elements are read. It answers whether all indices were
// in range, or None where memory that is written may be other operands' (unless the caller knows
// that all lie apart): nothing is done then, and Python looks again and names the arguments.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "decode.h"
#include "plan.h"
#include "profile.h"

namespace fedfast {

// Own: of each client. Shared: the same memory for all. Batch: a size in proportion to B.
enum class Scope { own, shared, batch };

// The way to a field: its name, a Python expression over declared arguments and letters of shapes,
// and members from the struct inwards.
template <typename... Path>
struct Field {
  const char* name;
  std::tuple<Path...> path;
  Scope scope;

  template <typename P>
  auto& of(P& p) const {
    return std::apply([&p](auto... member) -> auto& { return (p.*....*member); }, path);
  }
  bool shared() const { return scope == Scope::shared; }
};

template <typename... Path>
constexpr Field<Path...> field(const char* name, Path... path) {
  return {name, {path...}, Scope::own};
}
template <typename... Path>
constexpr Field<Path...> shared(const char* name, Path... path) {
  return {name, {path...}, Scope::shared};
}
// What lies beyond a client's real samples is neither read nor written then.
template <typename... Path>
constexpr Field<Path...> batch(const char* name, Path... path) {
  return {name, {path...}, Scope::batch};
}

// An operation on rows of S elements.
template <typename P>
struct Rows : P {
  int64_t size = 0;
};

// Fields of a part's clients.
template <typename T>
void shift(T&, bool, const Part&) {}
template <typename T>
void shift(Bank<T>& bank, bool, const Part& part) {
  if (bank.data) bank.data += part.row_at(bank.data) * bank.stride;
}
template <typename T>
void shift(Placed<T>& bank, bool, const Part& part) {
  if (bank.places) {
    bank.places += part.first;
  } else if (bank.data) {
    bank.data += part.row_at(bank.data) * bank.stride;
  }
}
template <typename T>
void shift(T*& data, bool shared, const Part& part) {
  if constexpr (!std::is_void_v<T>) {
    if (data && !shared) data += part.first;
  }
}
template <typename T>
void shift(Columns<T>& columns, bool, const Part& part) {
  columns.data += part.first;
}
template <typename T>
void shift(Terms<T>& terms, bool shared, const Part& part) {
  for (int j = 0; j < terms.count; ++j) {
    shift(terms.d[j], shared, part);
    shift(terms.c[j], shared, part);
  }
}
inline void shift(Bytes& bytes, bool, const Part& part) {
  if (bytes.data) bytes.data += part.first * bytes.stride;
}
inline void shift(Slots (&slots)[2], bool shared, const Part& part) {
  for (Slots& each : slots) shift(each.rows, shared, part);
}

// Packed batches that an operation has numbers for.
template <typename P>
int64_t lines_of(const P&) {
  return std::numeric_limits<int64_t>::max();
}
inline int64_t lines_of(const Feed& p) { return p.lines; }

// Tells operations whose order of sums goes by B what it was before rows were left out.
template <typename P>
void keep_width(P&) {}
template <typename T>
void keep_width(LinearForward<T>& p) {
  p.width = p.batch;
}
template <typename T>
void keep_width(LinearBackward<T>& p) {
  p.width = p.batch;
}

// Whether it understands `Part::describe`.
template <typename P>
bool sums(const P&) {
  return false;
}
template <typename T>
bool sums(const Rows<Step<T>>&) {
  return true;
}

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
// plans  whether it may be recorded in a plan that goes client by client; operations that spread a
//        client over threads may not
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
      decode(args[4 + i], field.of(p), field.shared(), memory);
    });
    if (memory.suspected(may_)) Py_RETURN_NONE;
    const bool planned = Plan::recording() != nullptr && !Plan::recording()->whole();
    const auto action = [list = list_, run = run_, p, name = name_, phase = profile::phase(),
                         planned](const Part& part) {
      const profile::Timed timed(name, phase, planned);
      P<T> own = p;
      keep_width(own);
      each(list(T{}), [&](const auto& field, int) {
        auto& value = field.of(own);
        shift(value, field.shared(), part);
        if constexpr (std::is_same_v<decltype(value), int64_t&>) {
          if (field.scope == Scope::batch) value = part.of(value);
        }
      });
      if constexpr (std::is_void_v<decltype(run(part, own))>) {
        return run(part, own), true;
      } else {
        return run(part, own);
      }
    };
    if (Plan* plan = Plan::recording()) {
      if (!plans_ && !plan->whole())
        throw pybind11::type_error("this operation cannot be part of a plan");
      plan->record(action, clients, lines_of(p), sums(p));
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
