// Philox4x32-10, counter-based random numbers (Salmon, Moraes, Dror, Shaw 2011); the same words as
// fedfast/random.py.
#pragma once

#include <array>
#include <cstdint>

#include "cpu/isa.h"

namespace fedfast {

using Words = std::array<uint32_t, 4>;

// Four random words of a 128-bit counter under a 64-bit key.
FEDFAST_INLINE Words philox4x32(Words c, uint64_t key) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0], p1 = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return c;
}

}  // namespace fedfast
