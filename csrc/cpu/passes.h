// Walks over (client, piece) pairs, alone or as a norm pass followed by an apply pass.
#pragma once

#include <cmath>
#include <vector>

#include "cpu/blocks.h"
#include "cpu/parallel.h"

namespace fedfast {

// Calls body(k, piece) once for each of the clients [first, first + count) and pieces. Clients
// change fastest: a piece of a row they share is read from memory once.
template <typename Body>
void each_piece(const Shape& shape, int64_t first, int64_t count, const std::vector<Piece>& pieces,
                const Body& body) {
  const int64_t width = pieces.size(), tasks = count * width;
  const int threads = worth(shape.threads, tasks, count * shape.size);
  parallel(threads, tasks, [&](int64_t task, int64_t last) {
    for (; task < last; ++task) body(first + task % count, pieces[task / count]);
  });
}

template <typename Body>
void each_piece(const Shape& shape, const std::vector<Piece>& pieces, const Body& body) {
  each_piece(shape, 0, shape.clients, pieces, body);
}

// Both passes of one client on one thread.
template <typename Squares, typename Apply>
void one_client(int64_t k, const std::vector<Piece>& pieces, const Squares& squares,
                const Apply& apply) {
  double sum = 0;
  for (const Piece& piece : pieces) sum += squares(k, piece);
  const double norm = std::sqrt(sum);
  for (const Piece& piece : pieces) apply(k, piece, norm);
}

// Both passes of a few clients, each spread over all threads. The sums add as in `one_client`.
template <typename Squares, typename Apply>
void few_clients(const Shape& shape, int64_t first, const std::vector<Piece>& pieces,
                 const Squares& squares, const Apply& apply) {
  const int64_t count = shape.clients - first, width = pieces.size();
  std::vector<double> slots(count * width), norms(count);
  each_piece(shape, first, count, pieces, [&](int64_t k, const Piece& piece) {
    slots[(k - first) * width + (&piece - pieces.data())] = squares(k, piece);
  });
  for (int64_t j = 0; j < count; ++j) norms[j] = std::sqrt(sum_in_order(&slots[j * width], width));
  each_piece(shape, first, count, pieces,
             [&](int64_t k, const Piece& piece) { apply(k, piece, norms[k - first]); });
}

// norm_k = sqrt(sum over pieces of squares(k, piece)), then apply(k, piece, norm_k).
// Clients that fill all threads evenly need no barrier between the passes; only those left over do.
template <typename Squares, typename Apply>
void norm_then_apply(const Shape& shape, const std::vector<Piece>& pieces, const Squares& squares,
                     const Apply& apply) {
  const int threads = worth(shape.threads, shape.threads, shape.clients * shape.size);
  const int64_t whole = shape.clients - shape.clients % threads;
  parallel(whole > 0 ? threads : 1, whole, [&](int64_t k, int64_t last) {
    for (; k < last; ++k) one_client(k, pieces, squares, apply);
  });
  if (whole < shape.clients) few_clients(shape, whole, pieces, squares, apply);
}

}  // namespace fedfast
