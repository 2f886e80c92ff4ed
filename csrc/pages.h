// Memory that is a file: what is said to the system about rows that will be read.
#pragma once

#include <cstdint>

namespace fedfast {

// Has the system read the pages of rows [n] of `row_bytes` each at `base`, without waiting for
// them. Returns how many ranges were asked for.
int64_t will_need(const char* base, int64_t row_bytes, const int64_t* rows, int64_t n);

// Whether the page at p has been written, or read, before. True where the system does not say.
bool is_touched(const void* p);

// Has the system make all pages of [p, p + bytes) there at once, instead of one after another as
// they are written; a hint.
void touch(void* p, int64_t bytes);

// Rows will be read in any order: nothing beside them is read from the file.
void any_order(const char* base, int64_t bytes);

}  // namespace fedfast
