// tensor/machine_rate.h: what this machine really does in large products, as the yardstick of
// `bench`.
#pragma once

#include "fedit/tensor/backend.h"

namespace fedit {

/// FLOP/s (2 m n k a product) of a square product of random data through `backend`, the best of
/// several. Takes a second or two on a CPU. Throws InputError where pack() does not know `dtype`.
double measure_product_rate(Backend& backend, Dtype dtype);

/// The same of products without a pause, over the second half of `seconds`: what a device does once
/// it is warm and at its power limit, as it is in training.
double measure_sustained_product_rate(Backend& backend, Dtype dtype, double seconds = 2);

}  // namespace fedit
