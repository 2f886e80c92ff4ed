// Which instruction set's tiles gemm.h uses, and its scratch memory.
#include "cpu/gemm.h"

#include <atomic>
#include <memory>
#include <new>

namespace fedfast {
namespace {

constexpr int kSlots = 4;
constexpr std::align_val_t kAlign{64};

struct Free {
  void operator()(std::byte* p) const { ::operator delete(p, kAlign); }
};

struct Buffer {
  std::unique_ptr<std::byte, Free> data;
  size_t size = 0;
};

thread_local Buffer buffers[kSlots];

Isa widest() {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
    return Isa::avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
#endif
  return Isa::portable;
}

std::atomic<Isa>& chosen() {
  static std::atomic<Isa> isa{widest()};
  return isa;
}

template <typename T>
struct Tables {
  Kernels<T> table[3];

  Tables() {
    portable_kernels(table[0]);
    if (!avx2_kernels(table[1])) table[1] = table[0];
    if (!avx512_kernels(table[2])) table[2] = table[1];
  }
};

}  // namespace

Isa gemm_isa() { return chosen().load(std::memory_order_relaxed); }

void gemm_limit(Isa isa) { chosen().store(std::min(isa, widest())); }

template <typename T>
const Kernels<T>& gemm_kernels() {
  static const Tables<T> tables;
  return tables.table[static_cast<int>(gemm_isa())];
}

template <typename T>
T* scratch(int slot, int64_t elements) {
  Buffer& buffer = buffers[slot];
  const size_t bytes = elements * sizeof(T);
  if (buffer.size < bytes) {
    buffer.data.reset();
    buffer.size = 0;  // in case the next line throws
    buffer.data.reset(static_cast<std::byte*>(::operator new(bytes, kAlign)));
    buffer.size = bytes;
  }
  return reinterpret_cast<T*>(buffer.data.get());
}

template const Kernels<float>& gemm_kernels();
template const Kernels<double>& gemm_kernels();
template float* scratch(int, int64_t);
template double* scratch(int, int64_t);

}  // namespace fedfast
