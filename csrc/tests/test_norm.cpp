#include "tests/layers.h"

namespace fedfast::tests {
namespace {

constexpr double kEps = 1e-3;

const NormShape kNorms[] = {{5, 1, 1, 1}, {4, 6, 1, 3}, {3, 4, 9, 2}, {2, 6, 35, 6}, {7, 5, 64, 1}};

// One client's members of each set that is normalised together: (set, place) pairs by place.
struct Sets {
  NormShape s;
  bool by_channel;  // over samples, else by sample and group

  int64_t size() const { return s.batch * s.channels * s.inner; }
  int64_t count() const { return by_channel ? s.channels : s.batch * s.groups; }
  int64_t channel(int64_t i) const { return i / s.inner % s.channels; }
  int64_t sample(int64_t i) const { return i / s.inner / s.channels; }
  int64_t of(int64_t i) const {
    return by_channel ? channel(i) : sample(i) * s.groups + channel(i) * s.groups / s.channels;
  }
};

template <typename T>
struct Normed {
  Sets sets;
  int64_t clients;
  int threads;
  NormShape s = sets.s;
  int64_t n = sets.size(), c = s.channels;
  Rows<T> x = block<T>(clients, n, 1), out = block<T>(clients, n, 2), dx = block<T>(clients, n, 3);
  Rows<T> dout = block<T>(clients, n, 4), weight = block<T>(clients, c, 5);
  Rows<T> bias = block<T>(clients, c, 6), dweight = block<T>(clients, c, 7);
  Rows<T> dbias = block<T>(clients, c, 8), mean = block<T>(clients, sets.count(), 9);
  Rows<T> rstd = block<T>(clients, sets.count(), 10);
  Rows<T> kept_mean = block<T>(clients, c, 11), kept_var = block<T>(clients, c, 12);
  Memory<T> alpha = Memory<T>(clients, 13), beta = Memory<T>(clients, 14);
  std::vector<int32_t> used =
      std::vector<int32_t>(clients, static_cast<int32_t>(s.batch - s.batch / 3));

  int64_t samples() const { return sets.by_channel ? used[0] : s.batch; }
  bool in(int64_t i) const { return sets.sample(i) < samples(); }

  void run() {
    const Rows<T> mean_before = kept_mean, var_before = kept_var;
    NormBackward<T> back{s,           x.read(),       weight.read(), dout.read(),
                         mean.read(), rstd.read(),    used.data(),   true,
                         dx.bank(),   dweight.bank(), dbias.bank(),  weight.read(),
                         bias.read(), alpha.data(),   beta.data()};
    if (sets.by_channel) {
      batch_norm(
          clients, threads,
          BatchNorm<T>{s, x.read(), weight.read(), bias.read(), kept_mean.bank(), kept_var.bank(),
                       used.data(), true, T(0.1), T(kEps), out.bank(), mean.bank(), rstd.bank()});
      batch_norm_backward(clients, threads, back);
    } else {
      group_norm(clients, threads,
                 GroupNorm<T>{s, x.read(), weight.read(), bias.read(), T(kEps), out.bank(),
                              mean.bank(), rstd.bank()});
      group_norm_backward(clients, threads, back);
    }
    for (int64_t k = 0; k < clients; ++k) check(k, mean_before, var_before);
  }

  // The mean over each set of value(place).
  template <typename Value>
  std::vector<double> means(const Value& value) const {
    std::vector<double> sum(sets.count()), members(sets.count());
    for (int64_t i = 0; i < n; ++i) {
      if (in(i)) sum[sets.of(i)] += value(i), members[sets.of(i)] += 1;
    }
    for (size_t j = 0; j < sum.size(); ++j) sum[j] /= members[j];
    return sum;
  }

  void check(int64_t k, const Rows<T>& mean_before, const Rows<T>& var_before) const {
    const auto m = means([&](int64_t i) { return x.at(k, i); });
    const auto v = means([&](int64_t i) { return std::pow(x.at(k, i) - m[sets.of(i)], 2); });
    const auto unit = [&](int64_t i) {
      return (x.at(k, i) - m[sets.of(i)]) / std::sqrt(v[sets.of(i)] + kEps);
    };
    const auto pull = [&](int64_t i) { return dout.at(k, i) * weight.at(k, sets.channel(i)); };
    const auto plain = means(pull);
    const auto along = means([&](int64_t i) { return pull(i) * unit(i); });
    std::vector<double> to_weight(c), to_bias(c);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t set = sets.of(i), channel = sets.channel(i);
      if (!in(i)) {
        expect("norm dx beyond", dx.at(k, i), 0, 0);
        continue;
      }
      const double y = unit(i) * weight.at(k, channel) + bias.at(k, channel);
      expect("norm", out.at(k, i), y, kLayer<T>);
      const double d = (pull(i) - plain[set] - unit(i) * along[set]) / std::sqrt(v[set] + kEps);
      expect("norm dx", dx.at(k, i), d, 10 * kLayer<T>);
      to_weight[channel] += dout.at(k, i) * unit(i);
      to_bias[channel] += dout.at(k, i);
    }
    for (int64_t j = 0; j < c; ++j) {
      const double w = beta[k] * weight.at(k, j) + alpha[k] * to_weight[j];
      const double b = beta[k] * bias.at(k, j) + alpha[k] * to_bias[j];
      expect("norm dweight", dweight.at(k, j), w, kLayer<T>);
      expect("norm dbias", dbias.at(k, j), b, kLayer<T>);
      if (!sets.by_channel) continue;
      const double members = samples() * s.inner;
      const double var = v[j] * members / (members - 1);
      expect("running mean", kept_mean.at(k, j), 0.9 * mean_before.at(k, j) + 0.1 * m[j],
             kLayer<T>);
      expect("running var", kept_var.at(k, j), 0.9 * var_before.at(k, j) + 0.1 * var, kLayer<T>);
    }
  }
};

template <typename T>
void norms(const NormShape& s, int64_t clients, int threads) {
  Normed<T>{{s, true}, clients, threads}.run();
  Normed<T>{{s, false}, clients, threads}.run();
}

}  // namespace

void test_norm() {
  for (const NormShape& s : kNorms) {
    each_crowd([&](int64_t clients, int threads) {
      norms<float>(s, clients, threads), norms<double>(s, clients, threads);
    });
  }
}

}  // namespace fedfast::tests
