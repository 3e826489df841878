// tensor/backend.h: the operations a model is made of, each with its backward. A back end is
// virtual only at the level of a whole operation; tests hold each to naive loops in double
// precision.
//
// Two memories. Back-end memory comes from allocate() or import_memory(), and only operations,
// upload() and download() may touch it: on a GPU the host cannot. It is what TensorView and
// PackedWeight point to, what every `float*` points to (gains, biases, lse, the factors of a
// LoraSlot and their gradients), and the flat fp32 vectors at the end (and dgain), which are spans.
// All other spans are host memory: tokens, positions, frequencies, rows, targets, weights, losses,
// the spans of Slots, Dropout and Sequences, the values of pack() and pack_bf16(). An operation is
// done with host memory when it returns; its work on back-end memory may go on behind it, in the
// order of calls. download(), cross_entropy(), squared_norm(), squared_distance() and
// export_memory() wait for all that came before.
//
// Activations are fp32 or bf16, as activation_dtype() says, all of one operation alike: x, y, s,
// q, k, v, out and their gradients. Everything else is fp32: gains, biases, lse, LoRA factors,
// gradients of what trains (dw, dbias, dgain, dtable, dhead), embedding tables, logits (the y of
// linear() may be fp32 where x is bf16), flat vectors. Sums are in fp32 or better.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fedit/core/rng.h"
#include "fedit/tensor/tensor.h"

namespace fedit {

/// A frozen (out x in) matrix, packed by the back end into memory that its owner keeps (node-shared
/// on the CPU). Immutable once packed.
struct PackedWeight {
    const std::byte* data = nullptr;  ///< back-end memory
    std::size_t bytes = 0;
    Dtype dtype = Dtype::fp32;
    std::int64_t out = 0, in = 0;
};

/// Rows of cohort member s: [row_begin[s], row_begin[s + 1]). Rows are sorted by member.
struct Slots {
    std::span<const std::int64_t> row_begin;
    std::int64_t count() const { return static_cast<std::int64_t>(row_begin.size()) - 1; }
};

/// One member's adapter of one linear layer: a (rank x in), b (out x rank), their gradients (added
/// to), all in back-end memory, and scale (alpha / r).
struct LoraSlot {
    const float* a = nullptr;
    const float* b = nullptr;
    float* da = nullptr;
    float* db = nullptr;
    std::int64_t rank = 0;
    float scale = 1;
};

/// The adapters of one linear layer in a call, one a slot. Layers that read the same input are
/// given together, so that it is read once.
struct LoraLayer {
    TensorView y;                          ///< tokens x out: its output, in backward the gradient
    TensorView s;                          ///< tokens x rank: the adapters' inner product
    std::span<const LoraSlot> adapters{};  ///< one a slot
    std::uint32_t module = 0;              ///< place of the linear layer in the layout
    std::int64_t turned_heads = 0;         ///< of y, which lora() turns as its `rotary` says
    Dtype products = Dtype::fp32;          ///< as AttentionShape::products
};

/// Dropout on an adapter's input. Element (t, j) has 16 random bits: of i = j % 8, the low (i even)
/// or high half of word i / 2 of the Philox block with key slot_key[slot] and counter {j / 8,
/// LoraLayer::module, low and high word of row_counter[t]}. It is dropped if they are < threshold()
/// and else multiplied by factor(). Integers decide, so every back end has the same mask. Nothing
/// is stored: backward draws it again.
struct Dropout {
    float p = 0;
    std::span<const std::uint64_t> slot_key{};    ///< one a slot (StreamKey with Purpose::dropout)
    std::span<const std::int64_t> row_counter{};  ///< a token's place in its client's batch

    /// p in 65536ths, rounded; the largest p that leaves anything is 65535 of them.
    std::uint32_t threshold() const {
        return static_cast<std::uint32_t>(std::min(65536.0 * p + 0.5, 65535.0));
    }
    /// 1 / (1 - the rounded p), so that the mean is kept.
    float factor() const { return 65536.0F / static_cast<float>(65536 - threshold()); }
};

/// Packed sequences: sequence i has the query rows [begin[i], begin[i + 1]). Attention is causal
/// inside each. Its keys and values are rows [kv_begin[i], kv_end[i]) of theirs, and the queries
/// are the last of these positions (a cache holds the earlier ones); without kv_begin, both are
/// the queries' rows.
struct Sequences {
    std::span<const std::int64_t> begin;
    std::span<const std::int64_t> kv_begin{}, kv_end{};
    std::int64_t count() const { return static_cast<std::int64_t>(begin.size()) - 1; }
    bool own_keys() const { return kv_begin.empty() && kv_end.empty(); }
};

struct AttentionShape {
    std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
    std::int64_t window = 0;  ///< position i sees position j <= i if i - j < window; 0: every one
    /// What operands of products are rounded to where activations are fp32. bf16 activations are
    /// multiplied as they are.
    Dtype products = Dtype::fp32;
};

/// How each head of a row turns: its halves (i, i + d/2) by position * inv_freq[i], as Hugging Face
/// does (RoPE, arXiv 2104.09864), and times attention_scale. None if inv_freq is empty.
struct Rotary {
    std::span<const std::int32_t> positions{};  ///< of each row
    std::span<const float> inv_freq{};          ///< head_dim / 2
    float attention_scale = 1;
};

/// What a device is and can do, for `doctor`, run.h5 and a run's identity.
struct DeviceInfo {
    std::string kind;             ///< "cpu", "cuda"
    std::string model;            ///< "AMD EPYC"
    std::string instruction_set;  ///< effective: "AVX2", "AVX3_ZEN4", "sm_90"
    std::string libraries;        ///< "oneDNN 2.6.3"
    bool bf16 = false;            ///< fast bf16 products exist
    std::int64_t memory_bytes = 0;
    /// Names this device among those of its node, the same for every rank that computes on it (a
    /// card's UUID). Empty: the node itself.
    std::string device_id{};
    /// "0000:3b:00": names the card on its node, alike for all parts of one card (MIG). Empty: no
    /// card.
    std::string bus_id{};
    /// Back-end memory is host memory, and any of it will do (64-byte aligned).
    bool host_memory = false;
    /// What one process takes of memory_bytes besides what it allocate()s: context, kernels,
    /// workspaces, logits. For the memory plan.
    std::int64_t overhead_bytes = 0;
};

/// Values whose squares squared_norm() and squared_distance() sum in one go: part of their bits.
inline constexpr std::int64_t squared_norm_block = 4096;

/// Host memory in one or more parts, in order.
using HostParts = std::span<const std::span<const std::byte>>;

/// Memory that a back end allocated; released with its owner.
class DeviceBuffer;

/// All operations. Not thread-safe: one caller. Threads inside an operation never change bits.
/// Matrices are row major; "+=" is said where an operation adds. Every operation throws ShapeError,
/// naming both shapes, before it touches data.
class Backend {
public:
    virtual ~Backend() = default;

    virtual DeviceInfo info() const = 0;
    /// What a model whose products are in `products` keeps its activations in.
    virtual Dtype activation_dtype(Dtype products) const = 0;
    /// Bytes that cross_entropy() of `rows` rows holds besides its operands and what info() counts
    /// as overhead. It keeps them. For the memory plan.
    virtual std::size_t loss_bytes(std::int64_t rows, std::int64_t vocab) const = 0;

    // ---- memory: 64-byte aligned; floats are not initialised
    virtual void* allocate(std::size_t bytes) = 0;
    virtual void release(void* memory) noexcept = 0;
    virtual void upload(void* to, std::span<const std::byte> from) = 0;
    virtual void download(std::span<std::byte> to, const void* from) = 0;
    /// A whole block from allocate() as other processes of this node can map it: bytes for a
    /// message to them (cudaIpcGetMemHandle). Waits until what was written to it is there. Throws
    /// RunError where the device cannot share memory, or where its memory is the host's, which is
    /// shared by Communicator::share.
    virtual std::vector<std::byte> export_memory(void* memory) = 0;
    /// Maps a block that another process exported (cudaIpcOpenMemHandle), to be read only.
    /// release() ends the mapping; every importer must have called it before the exporter does.
    virtual void* import_memory(std::span<const std::byte> handle) = 0;

    // ---- frozen products
    /// Bytes that pack() needs for an (out x in) weight, W and W^T forms together.
    virtual std::size_t packed_bytes(Dtype dtype, std::int64_t out, std::int64_t in) const = 0;
    /// Packs `values` (out x in, row major, host memory) into `memory` (back-end memory, 64-byte
    /// aligned, packed_bytes long).
    virtual void pack(std::byte* memory, Dtype dtype, std::span<const float> values,
                      std::int64_t out, std::int64_t in) = 0;
    /// The same from bf16 values: `rows` are a weight's rows in one or more parts, each of whole
    /// rows, in host memory at any address. The same bits as pack() of these values as floats.
    virtual void pack_bf16(std::byte* memory, Dtype dtype, HostParts rows, std::int64_t out,
                           std::int64_t in) = 0;
    /// The same from values in back-end memory (4-byte aligned): a weight that trains, after each
    /// step. The same bits as pack().
    virtual void repack(std::byte* memory, Dtype dtype, const float* values, std::int64_t out,
                        std::int64_t in) = 0;
    /// y = x W^T + bias (+ y if accumulate). x (tokens x in), y (tokens x out), bias (out) or null.
    /// y may be fp32 where x is bf16: logits.
    virtual void linear(TensorView y, TensorView x, const PackedWeight& w, const float* bias,
                        bool accumulate) = 0;
    /// dx = dy W (+ dx if accumulate).
    virtual void linear_dx(TensorView dx, TensorView dy, const PackedWeight& w,
                           bool accumulate) = 0;
    /// The gradients of a weight that trains: dw (out x in, fp32) += dy^T x, unless dw.data is
    /// null; dbias (out) += the column sums of dy, unless null.
    virtual void linear_dw(TensorView dw, float* dbias, TensorView dy, TensorView x) = 0;

    // ---- adapters (LoRA): rows are sorted by slot
    /// For each of `layers`, whose input is x: s = drop(x) A^T (kept for backward); y += scale s
    /// B^T; then y is turned as by rope() if it has turned_heads.
    virtual void lora(std::span<const LoraLayer> layers, TensorView x, const Slots& slots,
                      const Dropout& dropout, const Rotary& rotary) = 0;
    /// For each of `layers`, whose y is the gradient dy here: ds = scale dy B; db += scale dy^T s;
    /// da += ds^T drop(x); dx += drop'(ds A) unless dx.data is null. `ds` is scratch, tokens x the
    /// columns of all s together.
    virtual void lora_backward(TensorView dx, TensorView ds, std::span<const LoraLayer> layers,
                               TensorView x, const Slots& slots, const Dropout& dropout) = 0;

    // ---- the rest of a layer
    /// If `residual.data`: x += residual first. y = gain * x / sqrt(mean(x^2) + eps) per row
    /// (RMSNorm, arXiv 1910.07467), of x as it is stored, so that y can be computed again from it.
    virtual void rms_norm(TensorView y, TensorView x, TensorView residual, const float* gain,
                          float eps) = 0;
    /// dx += the gradient through y = rms_norm(x).
    virtual void rms_norm_backward(TensorView dx, TensorView dy, TensorView x, const float* gain,
                                   float eps) = 0;
    /// y = gain * x / rms(x) in each of a row's `heads` equal parts; gain (x.cols / heads). y may
    /// be x's memory.
    virtual void head_rms_norm(TensorView y, TensorView x, std::int64_t heads, const float* gain,
                               float eps) = 0;
    /// Writes dx, the gradient through y = head_rms_norm(x); it may be dy's memory.
    virtual void head_rms_norm_backward(TensorView dx, TensorView dy, TensorView x,
                                        std::int64_t heads, const float* gain, float eps) = 0;
    /// dgain[j] += sum over rows of dy_j x_j / rms(x), for a gain that trains; dgain is back-end
    /// memory. x may hold several parts a row, each as long as dgain and normalised by itself.
    virtual void rms_norm_dgain(std::span<float> dgain, TensorView dy, TensorView x, float eps) = 0;
    /// Turns each of a row's heads as `rotary` says. `inverse`: the backward, which turns the other
    /// way and multiplies by attention_scale too.
    virtual void rope(TensorView x, std::int64_t heads, const Rotary& rotary, bool inverse) = 0;
    /// Causal softmax(q k^T / sqrt(d)) v inside each sequence, over the window's positions. lse
    /// (heads x tokens): log-sum-exp of each row, kept for backward.
    virtual void attention(TensorView out, float* lse, TensorView q, TensorView k, TensorView v,
                           const AttentionShape& shape, const Sequences& sequences) = 0;
    /// Writes dq, dk, dv. Keys are the queries' rows. With `rotary`, dq and dk are turned back as
    /// by rope() with `inverse`: the gradients of q and k before they were rotated.
    virtual void attention_backward(TensorView dq, TensorView dk, TensorView dv, TensorView dout,
                                    TensorView out, const float* lse, TensorView q, TensorView k,
                                    TensorView v, const AttentionShape& shape,
                                    const Sequences& sequences, const Rotary& rotary) = 0;
    /// y = silu(gate) * up.
    virtual void swiglu(TensorView y, TensorView gate, TensorView up) = 0;
    /// Writes dgate and dup; they may be the memory of gate and up.
    virtual void swiglu_backward(TensorView dgate, TensorView dup, TensorView dy, TensorView gate,
                                 TensorView up) = 0;
    /// lora() of the two layers below SwiGLU, gate and up, then swiglu() of their outputs into act:
    /// the same bits. A back end may make one pass of it.
    virtual void lora_swiglu(TensorView act, std::span<const LoraLayer> gate_up, TensorView x,
                             const Slots& slots, const Dropout& dropout) {
        lora(gate_up, x, slots, dropout, {});
        swiglu(act, gate_up[0].y, gate_up[1].y);
    }
    /// lora_backward() of the layer above SwiGLU, whose input is act and whose dx is d_act, then
    /// swiglu_backward(): the same bits in dgate, dup and the adapters' gradients; d_act is scratch
    /// then. A back end may make one pass of it.
    virtual void lora_swiglu_backward(TensorView dgate, TensorView dup, TensorView d_act,
                                      TensorView ds, const LoraLayer& down, TensorView act,
                                      TensorView gate, TensorView up, const Slots& slots,
                                      const Dropout& dropout) {
        lora_backward(d_act, ds, {&down, 1}, act, slots, dropout);
        swiglu_backward(dgate, dup, d_act, gate, up);
    }
    /// Whether lora_swiglu_backward() makes act of gate and up: then act is scratch, and need not
    /// hold it.
    virtual bool computes_act_again() const { return false; }
    /// y[t] = table[tokens[t]]; the table is fp32.
    virtual void embedding(TensorView y, TensorView table,
                           std::span<const std::int32_t> tokens) = 0;
    /// dtable[tokens[t]] += dy[t], in the order of t; dtable is fp32.
    virtual void embedding_backward(TensorView dtable, TensorView dy,
                                    std::span<const std::int32_t> tokens) = 0;
    /// Next-token cross-entropy of rows x (n x hidden) through the packed head W (vocab x hidden),
    /// in chunks of rows: loss[i] = -log softmax(x_i W^T)[target_i]. If dx.data is not null, dx_i =
    /// weight_i * dloss_i/dx_i (written); if dhead.data is not null too, dhead (vocab x hidden,
    /// fp32) += sum_i weight_i * dloss_i/dW. `best`, if not empty: the largest logit's index in
    /// each row, the lowest of equals; -1 where one is NaN. `loss` and `best` are host memory: this
    /// is the one point of a pass where the host waits.
    virtual void cross_entropy(std::span<double> loss, TensorView dx, TensorView dhead,
                               TensorView x, const PackedWeight& head,
                               std::span<const std::int32_t> targets, std::span<const float> weight,
                               std::span<std::int32_t> best) = 0;
    /// y[i] = x[rows[i]]; and its transpose, y[rows[i]] += x[i] (rows are distinct).
    virtual void gather_rows(TensorView y, TensorView x, std::span<const std::int64_t> rows) = 0;
    virtual void scatter_add_rows(TensorView y, TensorView x,
                                  std::span<const std::int64_t> rows) = 0;

    // ---- flat fp32 vectors of adapters, in back-end memory
    /// One AdamW step as in PyTorch (arXiv 1711.05101), `step` counts from 1.
    struct AdamW {
        double lr, beta1, beta2, eps, weight_decay;
        std::int64_t step;
    };
    virtual void adamw(std::span<float> x, std::span<const float> g, std::span<float> m,
                       std::span<float> v, const AdamW& settings) = 0;
    /// x -= lr * (g + weight_decay * x).
    virtual void sgd(std::span<float> x, std::span<const float> g, double lr,
                     double weight_decay) = 0;
    virtual void scale(std::span<float> x, float factor) = 0;
    virtual void fill(std::span<float> x, float value) = 0;
    /// to = from, which do not overlap.
    virtual void copy(std::span<float> to, std::span<const float> from) = 0;
    /// Sum of squares in double, in blocks of squared_norm_block, whatever the number of threads.
    virtual double squared_norm(std::span<const float> x) = 0;
    /// squared_norm() of x - x0, whose values are rounded to fp32.
    virtual double squared_distance(std::span<const float> x, std::span<const float> x0) = 0;

    // ---- the federation's sum
    /// words[i] += llrint((x[i] - x0[i]) * weight * 2^52) modulo 2^64: a client's update in fixed
    /// point. Difference and product are rounded once each, in double, the last step to nearest,
    /// ties to even: the same integers on every back end, and a negative weight takes back what its
    /// positive one added. All three lie in back-end memory; |x - x0| < 2^9 and |weight| <= 4 were
    /// checked before.
    virtual void accumulate_fixed(std::span<std::uint64_t> words, std::span<const float> x,
                                  std::span<const float> x0, double weight) = 0;
};

/// The CPU back end: products in panels or by oneDNN, Highway SIMD, OpenMP. `threads` >= 1.
std::unique_ptr<Backend> make_cpu_backend(int threads);

/// The CUDA back end, or InputError where this build has none. `threads` copy to the device.
std::unique_ptr<Backend> make_cuda_backend(int device, int threads = 1);
/// CUDA devices that this process may use (CUDA_VISIBLE_DEVICES hides some); 0 where there is none,
/// or no driver, or this build has no CUDA back end. Does not throw.
int cuda_device_count();

/// A float or byte buffer in a back end's memory.
class DeviceBuffer {
public:
    DeviceBuffer() = default;
    DeviceBuffer(Backend& backend, std::size_t bytes)
        : backend_(&backend), data_(backend.allocate(bytes)), bytes_(bytes) {}
    /// A block of `bytes` that another process exported.
    DeviceBuffer(Backend& backend, std::span<const std::byte> handle, std::size_t bytes)
        : backend_(&backend), data_(backend.import_memory(handle)), bytes_(bytes) {}
    ~DeviceBuffer() {
        if (data_ != nullptr) backend_->release(data_);
    }
    DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
    DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
        swap(other);
        return *this;
    }
    std::byte* data() const { return static_cast<std::byte*>(data_); }
    float* floats() const { return static_cast<float*>(data_); }
    std::size_t bytes() const { return bytes_; }

private:
    void swap(DeviceBuffer& other) noexcept {
        std::swap(backend_, other.backend_);
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
    }
    Backend* backend_ = nullptr;
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
};

}  // namespace fedit
