// Which memory a call touches, and whether what it writes may be what it reads elsewhere. As in
// kernels/overlap.py: a tensor [K, ...] is K runs of bytes, one for each client.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <type_traits>
#include <vector>

namespace fedfast {

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
  // Memory that has no Extent: nothing is known of it here.
  void suspect() { suspect_ = true; }
  void at(int field) { field_ = field; }

  // `count` elements of `item` bytes in all; `pitch` elements from client to client.
  template <typename T>
  void add(T* data, int64_t count, int64_t item, bool split, int64_t pitch) {
    if (!wanted_ || data == nullptr || count == 0) return;
    if (count_ == kMost) throw std::length_error("an operation has too many tensors");
    const int64_t clients = split && clients_ > 0 ? clients_ : 1;
    const int64_t size = count / clients * item;
    const auto start = reinterpret_cast<std::uintptr_t>(data);
    const auto stop = start + (clients - 1) * pitch * item + size;
    extents_[count_++] = {field_, !std::is_const_v<T>, start, stop, clients,
                          size,   pitch * item,        item};
  }

  // may[field]: bits of the fields that may be exactly the memory that `field` writes.
  bool suspected(const std::vector<uint64_t>& may) const {
    if (suspect_ && wanted_) return true;
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
  bool wanted_, suspect_ = false;
  int field_ = 0, count_ = 0;
  Extent extents_[kMost];
};

}  // namespace fedfast
