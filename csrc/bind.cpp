#include "bind.h"

#include <cstring>
#include <sstream>

namespace py = pybind11;

namespace fedfast {
namespace {

// The place of a word in an enum's names, "choice none relu ...".
int64_t place_of(const std::string& word, const std::string& names) {
  std::istringstream list(names);
  std::string next;
  list >> next;
  for (int64_t place = 0; list >> next; ++place) {
    if (next == word) return place;
  }
  throw py::value_error("expected one of " + names + "; got " + word);
}

int64_t whole_of(PyObject* owned) {
  if (owned == nullptr) throw py::error_already_set();
  const int64_t value = PyLong_AsLongLong(owned);
  Py_DECREF(owned);
  if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
  return value;
}

}  // namespace

const Asked& Asked::names() {
  static const Asked asked{PyUnicode_InternFromString("data_ptr"),
                           PyUnicode_InternFromString("stride"),
                           PyUnicode_InternFromString("numel"),
                           PyUnicode_InternFromString("element_size"),
                           PyLong_FromLong(0),
                           PyLong_FromLong(1),
                           PyUnicode_InternFromString("table"),
                           PyUnicode_InternFromString("places")};
  return asked;
}

PyObject*& placed_rows() {
  static PyObject* type = nullptr;
  return type;
}

int64_t whole(PyObject* value) {
  const int64_t found = PyLong_AsLongLong(value);
  if (found == -1 && PyErr_Occurred()) throw py::error_already_set();
  return found;
}

int64_t asked(PyObject* tensor, PyObject* method) {
  return whole_of(PyObject_CallMethodNoArgs(tensor, method));
}

std::uintptr_t address(PyObject* tensor) {
  PyObject* found = PyObject_CallMethodNoArgs(tensor, Asked::names().data_ptr);
  if (found == nullptr) throw py::error_already_set();
  const auto value = PyLong_AsUnsignedLongLong(found);
  Py_DECREF(found);
  if (PyErr_Occurred()) throw py::error_already_set();
  return value;
}

std::uintptr_t address_of(PyObject* owner, PyObject* attribute, int64_t* step) {
  PyObject* tensor = PyObject_GetAttr(owner, attribute);
  if (tensor == nullptr) throw py::error_already_set();
  const auto held = py::reinterpret_steal<py::object>(tensor);
  *step = stride(tensor, Asked::names().zero);
  return address(tensor);
}

int64_t stride(PyObject* tensor, PyObject* dimension) {
  return whole_of(PyObject_CallMethodOneArg(tensor, Asked::names().stride, dimension));
}

void decode(PyObject* from, Bytes& to, bool, Memory& memory) {
  const int64_t item = asked(from, Asked::names().element_size);
  const int64_t step = stride(from, Asked::names().zero);
  to = {reinterpret_cast<char*>(address(from)), step * item};
  memory.add(to.data, asked(from, Asked::names().numel), item, true, step);
}

void decode(PyObject* from, Segments& to, bool shared, Memory& memory) {
  if (from == Py_None) return;
  const py::handle table(from);
  const py::object offset = table.attr("offset"), length = table.attr("length");
  to.count = asked(offset.ptr(), Asked::names().numel);
  decode(offset.ptr(), to.offset, shared, memory);
  decode(length.ptr(), to.length, shared, memory);
  const py::object is_weight = table.attr("is_weight");
  decode(is_weight.ptr(), to.is_weight, shared, memory);
}

void decode(PyObject* from, Server& to, bool, Memory&) {
  if (from == Py_None) return;
  const py::handle server(from);
  const auto number = [&](const char* name) { return server.attr(name).cast<double>(); };
  to.rule =
      static_cast<Rule>(place_of(server.attr("rule").cast<std::string>(), Kind<Rule>::name()));
  to.lr = number("lr");
  to.beta1 = number("beta1");
  to.beta2 = number("beta2");
  to.tau = number("tau");
}

void decode(PyObject* from, Slots (&to)[2], bool, Memory& memory) {
  const auto list = py::reinterpret_borrow<py::sequence>(from);
  if (list.size() < 1 || list.size() > 2) throw py::value_error("squares: expected 1 or 2");
  for (size_t i = 0; i < list.size(); ++i) {
    const py::object each = list[i];
    const auto shape = each.attr("shape").cast<py::sequence>();
    const int64_t clients = shape[0].cast<int64_t>(), count = shape[1].cast<int64_t>();
    const int64_t step = stride(each.ptr(), Asked::names().one);
    const Bank<const double> rows{reinterpret_cast<const double*>(address(each.ptr())),
                                  stride(each.ptr(), Asked::names().zero)};
    to[i] = {rows, count, step};
    const int64_t span = count == 0 ? 0 : (count - 1) * step + 1;
    memory.add(rows.data, clients * span, sizeof(double), true, rows.stride);
  }
}

std::map<std::string, Bound*>& Bound::registered() {
  static std::map<std::string, Bound*> all;
  return all;
}

void Bound::add(py::module_& m, std::unique_ptr<Bound> bound) {
  Bound* own = bound.release();  // as long as the module
  own->method_ = {own->name_,
                  reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&Bound::enter)),
                  METH_FASTCALL, nullptr};
  registered()[own->name_] = own;
  const py::capsule self(own);
  m.add_object(own->name_,
               py::reinterpret_steal<py::object>(PyCFunction_New(&own->method_, self.ptr())));
}

PyObject* Bound::enter(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  const auto* own = static_cast<const Bound*>(PyCapsule_GetPointer(self, nullptr));
  if (own == nullptr) return nullptr;
  const auto wanted = static_cast<Py_ssize_t>(4 + own->size());
  if (count != wanted) {
    PyErr_Format(PyExc_TypeError, "%s: expected %zd arguments; got %zd", own->name_, wanted, count);
    return nullptr;
  }
  try {
    return own->call(args);
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

}  // namespace fedfast
