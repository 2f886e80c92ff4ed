// How the binding files write lists of fields, with P = Struct<T>: short names, for them only.
#pragma once

#include <tuple>

#define F(name) field(#name, &P::name)

// LISTS(Struct, list, ...): lists of fields, one after another.
#define LISTS(Struct, ...)                     \
  [](auto zero) {                              \
    using T [[maybe_unused]] = decltype(zero); \
    using P = Struct<T>;                       \
    return std::tuple_cat(__VA_ARGS__);        \
  }
#define FIELDS(Struct, ...) LISTS(Struct, std::make_tuple(__VA_ARGS__))

// The operation of that name, on a part's clients.
#define RUN(name) \
  [](const Part& part, const auto& p) { return name(part.clients, part.threads, p); }
