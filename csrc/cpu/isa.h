// Which instructions a loop may use, chosen when the module is loaded.
#pragma once

// Contraction is off (see setup.py), so every clone gives the same bits. Sanitizers cannot run the
// loader's resolvers.
#if defined(__x86_64__) && defined(__ELF__) && defined(__GNUC__) && __GNUC__ >= 12 && \
    !defined(__clang__) && !defined(FEDFAST_ONE_ISA)
#define FEDFAST_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FEDFAST_CLONES
#endif

// An operand may be the output itself, never the output shifted: no iteration waits for another.
#if defined(__GNUC__) && !defined(__clang__)
#define FEDFAST_INDEPENDENT _Pragma("GCC ivdep")
#elif defined(__clang__)
#define FEDFAST_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define FEDFAST_INDEPENDENT
#endif
