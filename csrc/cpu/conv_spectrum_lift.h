// Planes to spectra and back: squares of an image, and windows, which are at most 8 x 8.
#pragma once

#include <algorithm>

#include "cpu/conv_spectrum.h"

namespace fedfast {
namespace {

template <typename T>
alignas(64) constexpr T kNoPixels[kSpectrumSide] = {};

template <typename V>
FEDFAST_TARGET void lift_square(const SpectrumLift<typename V::T>& l) {
  using T = typename V::T;
  alignas(64) T one[kSquare], two[kSquare];
  const T* at[kSpectrumSide];
  int64_t step[kSpectrumSide];
  for (int i = 0; i < kSpectrumSide; ++i) {
    const bool inside = i >= l.top && i < l.top + l.rows;
    at[i] = inside ? l.from + (i - l.top) * l.row - l.left : kNoPixels<T>;
    step[i] = inside ? l.plane : 0;
  }
  typename V::Mask mask[kSpectrumSide / V::lanes];
  for (int o = 0; o < kSpectrumSide; o += V::lanes) {
    mask[o / V::lanes] = V::span(l.left - o, l.columns);
  }
  T* to = l.to;
  for (int64_t c = 0; c < l.count; ++c, to += l.to_step) {
    columns_spectrum<V, false>(
        [&](int i, int o)
            FEDFAST_TARGET { return V::load(at[i] + c * step[i] + o, mask[o / V::lanes]); },
        one);
    turn_square<V>(one, two);
    columns_spectrum<V, false>(
        [&](int i, int o) FEDFAST_TARGET { return V::load(two + i * kSpectrumSide + o); }, one);
    join_parts<V, false>(one, to, l.to_plane);
  }
}

// Windows are narrow: as many as fit lie side by side on the way down, the transform across is of
// each one's own columns.
template <typename V>
FEDFAST_TARGET void lift_windows(const SpectrumLift<typename V::T>& l) {
  using T = typename V::T;
  alignas(64) T one[kSquare], two[kSquare];
  const int most = kSpectrumSide / l.columns;
  const typename V::Reg scale = V::broadcast(T{1} / 128);
  T* to = l.to;
  for (int64_t first = 0; first < l.count; first += most) {
    const int together = static_cast<int>(std::min<int64_t>(most, l.count - first));
    const T* from = l.from + first * l.plane;
    const auto row = [&](int i, int o) FEDFAST_TARGET {
      typename V::Reg x = V::zero();
      if (i >= l.rows) return x;
      for (int w = 0; w < together; ++w) {
        const int left = w * l.columns;
        x = V::add(
            x, V::load(from + w * l.plane + i * l.row - left + o, V::span(left - o, l.columns)));
      }
      return V::mul(scale, x);
    };
    columns_spectrum<V, true>(row, one);
    turn_square<V>(one, two);
    for (int w = 0; w < together; ++w, to += l.to_step) {
      const T* own = two + w * l.columns * kSpectrumSide;
      const auto column = [&](int i, int o) FEDFAST_TARGET {
        return V::load((i < l.columns ? own + i * kSpectrumSide : kNoPixels<T>)+o);
      };
      columns_spectrum<V, true>(column, one);
      join_parts<V, true>(one, to, l.to_plane);
    }
  }
}

template <typename V>
FEDFAST_TARGET void drop_square(const SpectrumDrop<typename V::T>& d) {
  using T = typename V::T;
  using Reg = typename V::Reg;
  alignas(64) T one[kSquare], two[kSquare];
  typename V::Mask mask[kSpectrumSide / V::lanes];
  for (int o = 0; o < kSpectrumSide; o += V::lanes) mask[o / V::lanes] = V::span(-o, d.columns);
  const T* from = d.from;
  T* to = d.to;
  for (int64_t c = 0; c < d.count; ++c, from += d.from_step, to += d.plane) {
    part_spectra<V, false>(from, d.from_plane, one);
    columns_back<V, false>(
        one, [&](int i, int o, Reg x) FEDFAST_TARGET { V::store(two + i * kSpectrumSide + o, x); });
    turn_square<V>(two, one);
    const Reg bias = d.bias != nullptr ? V::broadcast(d.bias[c]) : V::zero();
    columns_back<V, false>(one, [&](int i, int o, Reg x) FEDFAST_TARGET {
      if (i >= d.rows) return;
      if (d.bias != nullptr) x = V::add(x, bias);
      V::store(to + i * d.row + o, d.relu ? V::relu(x) : x, mask[o / V::lanes]);
    });
  }
}

template <typename V>
FEDFAST_TARGET void drop_windows(const SpectrumDrop<typename V::T>& d) {
  using T = typename V::T;
  using Reg = typename V::Reg;
  alignas(64) T one[kSquare], two[kSquare] = {};
  const int most = kSpectrumSide / d.columns;
  const Reg scale = V::broadcast(T{1} / 128);
  const T* from = d.from;
  for (int64_t first = 0; first < d.count; first += most) {
    const int together = static_cast<int>(std::min<int64_t>(most, d.count - first));
    for (int w = 0; w < together; ++w, from += d.from_step) {
      T* own = two + w * d.columns * kSpectrumSide;
      part_spectra<V, true>(from, d.from_plane, one);
      columns_back<V, true>(one, [&](int i, int o, Reg x) FEDFAST_TARGET {
        if (i < d.columns) V::store(own + i * kSpectrumSide + o, V::mul(scale, x));
      });
    }
    turn_square<V>(two, one);
    T* to = d.to + first * d.plane;
    columns_back<V, true>(one, [&](int i, int o, Reg x) FEDFAST_TARGET {
      if (i >= d.rows) return;
      for (int w = 0; w < together; ++w) {
        const int left = w * d.columns;
        V::store(to + w * d.plane + i * d.row - left + o, x, V::span(left - o, d.columns));
      }
    });
  }
}

}  // namespace
}  // namespace fedfast
