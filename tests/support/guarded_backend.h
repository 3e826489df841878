// tests/support/guarded_backend.h: a twin of the CPU back end whose memory the host cannot touch,
// as if it were a GPU's.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fedit/tensor/backend.h"

namespace fedit::test {

/// Forwards every operation to the CPU back end. Its memory is not accessible except inside its own
/// operations, upload() and download(), so host code that touches it crashes the test; new memory
/// is full of NaN. Every pointer and span must lie where backend.h says, or the operation throws
/// std::logic_error. Blocks are shared with other processes of the node as shared memory.
class GuardedBackend final : public Backend {
public:
    /// `activations` fp32: the bits of the CPU back end. bf16: activations are kept as bf16 and
    /// widened around each operation, which computes in fp32, as a GPU does. `memory_bytes`: what
    /// info() says; 0: the node's.
    explicit GuardedBackend(int threads = 1, Dtype activations = Dtype::fp32,
                            std::string device_id = "guarded", std::int64_t memory_bytes = 0);
    ~GuardedBackend() override;

    /// How often the host has waited for the device: downloads, losses, norms, exports.
    int waits() const { return waits_; }

    DeviceInfo info() const override;
    Dtype activation_dtype(Dtype products) const override;
    std::size_t loss_bytes(std::int64_t rows, std::int64_t vocab) const override;

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
    /// As on a GPU.
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
    class Operation;
    enum class Access { none, open };
    enum class Origin { own, imported };

    /// A mapping; `file` is its memory, which other processes may map too.
    struct Block {
        std::size_t bytes = 0, mapped = 0;
        int file = -1;
        Origin origin = Origin::own;
    };

    void* map(int file, std::size_t bytes, Origin origin);
    void protect(Access access);
    /// The block that holds all of [begin, begin + bytes), or null.
    const Block* find(const void* begin, std::size_t bytes) const;

    std::unique_ptr<Backend> cpu_;
    Dtype activations_;
    std::string device_id_;
    std::int64_t memory_bytes_;
    std::map<const std::byte*, Block> blocks_;  ///< by address
    int waits_ = 0;
};

}  // namespace fedit::test
