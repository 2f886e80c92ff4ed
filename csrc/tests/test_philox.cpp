#include "cpu/philox.h"
#include "tests/check.h"

namespace fedfast::tests {
namespace {

struct Known {
  Words counter;
  uint64_t key;
  Words answer;
};

// Random123, tests/kat_vectors, lines "philox4x32 10".
constexpr uint32_t kOnes = 0xFFFFFFFF;
constexpr Known kKnown[] = {
    {{0, 0, 0, 0}, 0, {0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}},
    {{kOnes, kOnes, kOnes, kOnes},
     0xFFFFFFFFFFFFFFFF,
     {0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}},
    {{0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344},
     0x299F31D0A4093822,
     {0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1}},
};

}  // namespace

void test_philox() {
  for (const Known& known : kKnown) {
    const Words found = philox4x32(known.counter, known.key);
    for (int i = 0; i < 4; ++i) expect("philox", found[i], known.answer[i], 0);
  }
}

}  // namespace fedfast::tests
