// tensor/check.h: shape checks of each operation, shared by the back ends; nothing throws after
// them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>

#include "fedit/tensor/backend.h"

namespace fedit::check {

// Each throws ShapeError naming the operation and both operands with their shapes. Activations may
// be fp32 or bf16, but all of one type.

void pack(Dtype dtype, std::span<const float> values, std::int64_t out, std::int64_t in);
void pack_bf16(Dtype dtype, HostParts rows, std::int64_t out, std::int64_t in);
void linear(TensorView y, TensorView x, const PackedWeight& w);
void linear_dx(TensorView dx, TensorView dy, const PackedWeight& w);
void linear_dw(TensorView dw, const float* dbias, TensorView dy, TensorView x);
void lora(std::span<const LoraLayer> layers, TensorView x, const Slots& slots,
          const Dropout& dropout, const Rotary& rotary);
void lora_backward(TensorView dx, TensorView ds, std::span<const LoraLayer> layers, TensorView x,
                   const Slots& slots, const Dropout& dropout);
/// Two layers, gate and up.
void lora_swiglu(TensorView act, std::span<const LoraLayer> gate_up, TensorView x,
                 const Slots& slots, const Dropout& dropout);
void swiglu(TensorView y, TensorView gate, TensorView up);
void swiglu_backward(TensorView dgate, TensorView dup, TensorView dy, TensorView gate,
                     TensorView up);
void rms_norm(TensorView y, TensorView x, TensorView residual);
void head_rms_norm(TensorView y, TensorView x, std::int64_t heads);
void rms_norm_dgain(std::span<const float> dgain, TensorView dy, TensorView x);
void rope(TensorView x, std::int64_t heads, const Rotary& rotary);
void attention(TensorView out, TensorView q, TensorView k, TensorView v,
               const AttentionShape& shape, const Sequences& sequences);
void attention_backward(TensorView dq, TensorView dk, TensorView dv, TensorView dout,
                        TensorView out, TensorView q, TensorView k, TensorView v,
                        const AttentionShape& shape, const Sequences& sequences,
                        const Rotary& rotary);
/// Matrices of one shape and type; `a` is what the others are held against.
void same_shape(std::string_view operation, std::string_view a_name, TensorView a,
                std::string_view b_name, TensorView b);
void embedding(TensorView y, TensorView table, std::span<const std::int32_t> tokens);
void cross_entropy(std::span<const double> loss, TensorView dx, TensorView dhead, TensorView x,
                   const PackedWeight& head, std::span<const std::int32_t> targets,
                   std::span<const float> weight, std::span<const std::int32_t> best);
/// `few` has a row for each of `rows`, which are rows of `many`.
void row_list(std::string_view operation, TensorView few, TensorView many,
              std::span<const std::int64_t> rows);
/// For a back end that knows no other type. Operands without data do not count.
void only_fp32(std::string_view operation, std::initializer_list<TensorView> operands);
void same_size(std::string_view operation, std::string_view a_name, std::size_t a,
               std::string_view b_name, std::size_t b);

}  // namespace fedit::check
