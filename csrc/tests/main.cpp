#include "tests/check.h"

int main() {
  fedfast::tests::test_perturb();
  fedfast::tests::test_step();
  fedfast::tests::test_stats();
  fedfast::tests::test_aggregate();
  fedfast::tests::test_mix();
  fedfast::tests::test_conv();
  fedfast::tests::test_pool();
  std::puts("all operations agree with the naive loops");
}
