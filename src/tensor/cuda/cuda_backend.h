// tensor/cuda/cuda_backend.h: the CUDA back end: one device, one stream, kernels of our own and
// products by cuBLASLt.
#pragma once

#include <set>
#include <vector>

#include "fedit/tensor/cuda_devices.h"
#include "tensor/cuda/host_arrays.h"
#include "tensor/cuda/loss_chunks.h"
#include "tensor/cuda/products.h"
#include "tensor/cuda/rotary.h"
#include "tensor/rope_table.h"

namespace fedit::cuda {

/// Operations put their work on one stream and return; host memory that they were given is done
/// with by then. The device is the calling thread's from construction on. After a fault inside a
/// kernel every later call throws, for only a new process can use the device again.
class CudaBackend final : public Backend {
public:
    /// Throws InputError if there is no such device, RunError if it cannot be used.
    CudaBackend(int device, CudaErrors errors, int threads);
    CudaBackend(const CudaBackend&) = delete;
    CudaBackend& operator=(const CudaBackend&) = delete;

    DeviceInfo info() const override;
    Dtype activation_dtype(Dtype products) const override { return products; }
    std::size_t loss_bytes(std::int64_t rows, std::int64_t vocab) const override {
        return loss_chunk_bytes(rows, vocab);
    }

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

    void lora_swiglu(TensorView act, std::span<const LoraLayer> gate_up, TensorView x,
                     const Slots& slots, const Dropout& dropout) override;
    bool computes_act_again() const override { return true; }
    void lora_swiglu_backward(TensorView dgate, TensorView dup, TensorView d_act, TensorView ds,
                              const LoraLayer& down, TensorView act, TensorView gate, TensorView up,
                              const Slots& slots, const Dropout& dropout) override;

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
    cudaStream_t stream() const { return stream_.get(); }
    /// What every operation ends with: finds its faults at once where that was asked for.
    void finish(std::string_view operation) {
        if (errors_ == CudaErrors::at_once) check(cudaStreamSynchronize(stream()), operation);
    }
    /// squared_norm() where x0 is null.
    double squared_distance_or_norm(std::span<const float> x, const float* x0);
    /// x, or its copy in `dtype` that lasts until `scratch` is asked for more.
    TensorView in_dtype(TensorView x, Dtype dtype, DeviceScratch& scratch);
    /// The rotary table on the device, for positions up to `last_position`.
    const float* rope_table(std::int64_t last_position, std::span<const float> inv_freq,
                            float attention_scale);
    /// None of no frequencies. There is a position at least.
    DeviceRotary rotary_on_device(const Rotary& rotary);

    CudaErrors errors_;
    CudaDevice device_;
    Stream stream_;
    Staging staging_;
    HostArrays arrays_;
    Products products_;
    std::set<void*> imported_;  ///< blocks of other processes
    DeviceScratch scratch_, converted_, logits_, losses_;
    DeviceScratch rope_memory_;
    RopeTable rope_table_;
    std::vector<float> rope_inv_freq_;  ///< what rope_memory_ was made of
    float rope_scale_ = 0;
    std::size_t rope_floats_ = 0;
};

}  // namespace fedit::cuda
