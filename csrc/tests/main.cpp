#include "tests/check.h"

int main() {
  fedfast::tests::test_team();
  fedfast::tests::test_perturb();
  fedfast::tests::test_step();
  fedfast::tests::test_stats();
  fedfast::tests::test_aggregate();
  fedfast::tests::test_mix();
  fedfast::tests::test_adam();
  fedfast::tests::test_gram();
  fedfast::tests::test_sensitivity();
  fedfast::tests::test_philox();
  fedfast::tests::test_draws();
  fedfast::tests::test_linear();
  fedfast::tests::test_conv();
  fedfast::tests::test_conv_pool();
  fedfast::tests::test_pool();
  fedfast::tests::test_norm();
  fedfast::tests::test_loss();
  fedfast::tests::test_divergence();
  fedfast::tests::test_gaussian();
  fedfast::tests::test_gather();
  fedfast::tests::test_plan();
  std::puts("all operations agree with the naive loops");
}
