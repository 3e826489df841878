// tensor/cpu/cpu_backend.h: the CPU back end; each operation is in the file of its name.
#pragma once

#include "fedit/tensor/backend.h"
#include "tensor/cpu/operands.h"
#include "tensor/cpu/products.h"
#include "tensor/cpu/scratch.h"
#include "tensor/rope_table.h"

namespace fedit::cpu {

struct LoraBackward;

class CpuBackend final : public Backend {
public:
    /// `choice` other than for_this_cpu() is for tests.
    explicit CpuBackend(int threads, ProductChoice choice = ProductChoice::for_this_cpu());

    DeviceInfo info() const override;
    Dtype activation_dtype(Dtype products) const override;
    /// A chunk of logits is part of the overhead.
    std::size_t loss_bytes(std::int64_t, std::int64_t) const override { return 0; }

    void* allocate(std::size_t bytes) override;
    void release(void* memory) noexcept override;
    void upload(void* to, std::span<const std::byte> from) override;
    void download(std::span<std::byte> to, const void* from) override;
    std::vector<std::byte> export_memory(void* memory) override;
    void* import_memory(std::span<const std::byte> handle) override;

    std::size_t packed_bytes(Dtype dtype, std::int64_t out, std::int64_t in) const override;
    void pack(std::byte* memory, Dtype dtype, std::span<const float> values, std::int64_t out,
              std::int64_t in) override;
    void pack_bf16(std::byte* memory, Dtype dtype, HostParts rows, std::int64_t out,
                   std::int64_t in) override;
    void repack(std::byte* memory, Dtype dtype, const float* values, std::int64_t out,
                std::int64_t in) override;
    void linear(TensorView y, TensorView x, const PackedWeight& w, const float* bias,
                bool accumulate) override;
    void linear_dx(TensorView dx, TensorView dy, const PackedWeight& w, bool accumulate) override;
    void linear_dw(TensorView dw, float* dbias, TensorView dy, TensorView x) override;

    void lora(std::span<const LoraLayer> layers, TensorView x, const Slots& slots,
              const Dropout& dropout, const Rotary& rotary) override;
    void lora_backward(TensorView dx, TensorView ds, std::span<const LoraLayer> layers,
                       TensorView x, const Slots& slots, const Dropout& dropout) override;

    void rms_norm(TensorView y, TensorView x, TensorView residual, const float* gain,
                  float eps) override;
    void rms_norm_backward(TensorView dx, TensorView dy, TensorView x, const float* gain,
                           float eps) override;
    void head_rms_norm(TensorView y, TensorView x, std::int64_t heads, const float* gain,
                       float eps) override;
    void head_rms_norm_backward(TensorView dx, TensorView dy, TensorView x, std::int64_t heads,
                                const float* gain, float eps) override;
    void rms_norm_dgain(std::span<float> dgain, TensorView dy, TensorView x, float eps) override;
    void rope(TensorView x, std::int64_t heads, const Rotary& rotary, bool inverse) override;
    void attention(TensorView out, float* lse, TensorView q, TensorView k, TensorView v,
                   const AttentionShape& shape, const Sequences& sequences) override;
    void attention_backward(TensorView dq, TensorView dk, TensorView dv, TensorView dout,
                            TensorView out, const float* lse, TensorView q, TensorView k,
                            TensorView v, const AttentionShape& shape, const Sequences& sequences,
                            const Rotary& rotary) override;
    void swiglu(TensorView y, TensorView gate, TensorView up) override;
    void swiglu_backward(TensorView dgate, TensorView dup, TensorView dy, TensorView gate,
                         TensorView up) override;
    void embedding(TensorView y, TensorView table, std::span<const std::int32_t> tokens) override;
    void embedding_backward(TensorView dtable, TensorView dy,
                            std::span<const std::int32_t> tokens) override;
    void cross_entropy(std::span<double> loss, TensorView dx, TensorView dhead, TensorView x,
                       const PackedWeight& head, std::span<const std::int32_t> targets,
                       std::span<const float> weight, std::span<std::int32_t> best) override;
    void gather_rows(TensorView y, TensorView x, std::span<const std::int64_t> rows) override;
    void scatter_add_rows(TensorView y, TensorView x, std::span<const std::int64_t> rows) override;

    void adamw(std::span<float> x, std::span<const float> g, std::span<float> m, std::span<float> v,
               const AdamW& settings) override;
    void sgd(std::span<float> x, std::span<const float> g, double lr, double weight_decay) override;
    void scale(std::span<float> x, float factor) override;
    void fill(std::span<float> x, float value) override;
    void copy(std::span<float> to, std::span<const float> from) override;
    double squared_norm(std::span<const float> x) override;
    double squared_distance(std::span<const float> x, std::span<const float> x0) override;

    void accumulate_fixed(std::span<std::uint64_t> words, std::span<const float> x,
                          std::span<const float> x0, double weight) override;

private:
    /// What attention's and adapters' products multiply, for a model whose products are `products`.
    Operands operands_for(Dtype products) const;
    void lora_of(const LoraLayer& layer, TensorView x, const Slots& slots, const Dropout& dropout);
    void lora_backward_of(const LoraBackward& call);

    int threads_;
    Products products_;
    RopeTable rope_table_;
    Scratch scratch_;
};

}  // namespace fedit::cpu
