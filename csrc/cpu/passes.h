// Walks over (client, piece) pairs, alone or as a norm pass followed by an apply pass.
#pragma once

#include <cmath>
#include <vector>

#include "cpu/blocks.h"
#include "cpu/parallel.h"

namespace fedfast {

// The clients [first, first + count) of a bank.
struct Group {
  int64_t first, count;
};

// Calls body(k, piece index) once for each pair; a thread takes its pairs in falling order when
// `backwards`.
template <typename Body>
void each_piece(const Shape& shape, Group group, int64_t pieces, bool backwards, const Body& body) {
  const int64_t tasks = group.count * pieces;
  const int threads = worth(shape.threads, tasks, group.count * shape.size);
  parallel(threads, tasks, [&](int64_t begin, int64_t end) {
    for (int64_t step = begin; step < end; ++step) {
      const int64_t task = backwards ? begin + end - 1 - step : step;
      body(group.first + task / pieces, task % pieces);
    }
  });
}

// How many clients to take through both passes before the next: what the first pass read is then
// still in cache.
inline int64_t clients_together(const Shape& shape, int64_t bytes_per_element) {
  constexpr int64_t kCache = 1 << 21;
  const int64_t fit = kCache / std::max<int64_t>(1, shape.size * bytes_per_element);
  return std::min(shape.clients, std::max<int64_t>(1, fit));
}

// norm_k = sqrt(sum over pieces of squares(k, piece)), then apply(k, piece, norm_k).
// The second pass goes backwards: it starts with what the first has left in cache.
template <typename Squares, typename Apply>
void norm_then_apply(const Shape& shape, const std::vector<Piece>& pieces,
                     int64_t bytes_per_element, const Squares& squares, const Apply& apply) {
  const int64_t count = pieces.size(), together = clients_together(shape, bytes_per_element);
  std::vector<double> slots(together * count), norms(together);
  for (int64_t first = 0; first < shape.clients; first += together) {
    const Group group{first, std::min(together, shape.clients - first)};
    each_piece(shape, group, count, false, [&](int64_t k, int64_t i) {
      slots[(k - first) * count + i] = squares(k, pieces[i]);
    });
    for (int64_t j = 0; j < group.count; ++j) {
      norms[j] = std::sqrt(sum_in_order(&slots[j * count], count));
    }
    each_piece(shape, group, count, true,
               [&](int64_t k, int64_t i) { apply(k, pieces[i], norms[k - first]); });
  }
}

}  // namespace fedfast
