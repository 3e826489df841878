// tests/support/guarded_backend.cpp: the guarded memory, and each operation between two locks.
#include "tests/support/guarded_operation.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <deque>
#include <exception>
#include <limits>
#include <stdexcept>
#include <system_error>

namespace fedit::test {

namespace {

constexpr std::size_t page = 4096;

int checked(int result, const char* call) {
    if (result < 0) throw std::system_error(errno, std::generic_category(), call);
    return result;
}

/// What a process sends of a block to another: where its memory can be opened.
struct Handle {
    pid_t process;
    int file;
    std::size_t bytes;
};

}  // namespace

GuardedBackend::GuardedBackend(int threads, Dtype activations, std::string device_id,
                               std::int64_t memory_bytes)
    : cpu_(make_cpu_backend(threads)),
      activations_(activations),
      device_id_(std::move(device_id)),
      memory_bytes_(memory_bytes) {}

GuardedBackend::~GuardedBackend() = default;

DeviceInfo GuardedBackend::info() const {
    DeviceInfo info = cpu_->info();
    info.kind = "guarded";
    info.device_id = device_id_;
    info.bus_id = device_id_;
    info.host_memory = false;
    if (memory_bytes_ > 0) info.memory_bytes = memory_bytes_;
    return info;
}

Dtype GuardedBackend::activation_dtype(Dtype /*products*/) const {
    return activations_;
}

std::size_t GuardedBackend::loss_bytes(std::int64_t rows, std::int64_t vocab) const {
    return cpu_->loss_bytes(rows, vocab);
}

// ---- memory

void* GuardedBackend::map(int file, std::size_t bytes, Origin origin) {
    const bool own = origin == Origin::own;
    const std::size_t mapped = (std::max<std::size_t>(bytes, 1) + page - 1) / page * page;
    if (own) checked(ftruncate(file, static_cast<off_t>(mapped)), "ftruncate");
    void* memory =
        mmap(nullptr, mapped, own ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
    if (own) std::memset(memory, 0xff, mapped);  // NaN, as fp32 and as bf16
    checked(mprotect(memory, mapped, PROT_NONE), "mprotect");
    blocks_[static_cast<const std::byte*>(memory)] = {bytes, mapped, file, origin};
    return memory;
}

void* GuardedBackend::allocate(std::size_t bytes) {
    return map(checked(memfd_create("fedit_guarded", MFD_CLOEXEC), "memfd_create"), bytes,
               Origin::own);
}

void GuardedBackend::release(void* memory) noexcept {
    const auto found = blocks_.find(static_cast<const std::byte*>(memory));
    if (found == blocks_.end()) std::terminate();  // not a block: the caller is broken
    munmap(memory, found->second.mapped);
    close(found->second.file);
    blocks_.erase(found);
}

std::vector<std::byte> GuardedBackend::export_memory(void* memory) {
    ++waits_;
    const Block& block = blocks_.at(static_cast<const std::byte*>(memory));
    if (block.origin == Origin::imported)
        throw std::logic_error("guarded back end: an imported block is exported");
    const Handle handle{getpid(), block.file, block.bytes};
    const auto bytes = std::as_bytes(std::span(&handle, 1));
    return {bytes.begin(), bytes.end()};
}

void* GuardedBackend::import_memory(std::span<const std::byte> handle) {
    Handle from{};
    if (handle.size() != sizeof from) throw std::logic_error("guarded back end: no handle of ours");
    std::memcpy(&from, handle.data(), sizeof from);
    const std::string path =
        "/proc/" + std::to_string(from.process) + "/fd/" + std::to_string(from.file);
    return map(checked(open(path.c_str(), O_RDONLY | O_CLOEXEC), path.c_str()), from.bytes,
               Origin::imported);
}

void GuardedBackend::protect(Access access) {
    for (const auto& [begin, block] : blocks_) {
        const int open = block.origin == Origin::own ? PROT_READ | PROT_WRITE : PROT_READ;
        if (mprotect(const_cast<std::byte*>(begin), block.mapped,
                     access == Access::open ? open : PROT_NONE) != 0) {
            std::terminate();
        }
    }
}

const GuardedBackend::Block* GuardedBackend::find(const void* begin, std::size_t bytes) const {
    const auto* first = static_cast<const std::byte*>(begin);
    auto after = blocks_.upper_bound(first);
    if (after == blocks_.begin()) return nullptr;
    const auto& [start, block] = *--after;
    return first + bytes <= start + block.bytes ? &block : nullptr;
}

void GuardedBackend::upload(void* to, std::span<const std::byte> from) {
    Operation run(*this, "upload");
    run.floats(static_cast<const float*>(to), static_cast<std::int64_t>(from.size() / 4));
    cpu_->upload(to, run.host(from));
}

void GuardedBackend::download(std::span<std::byte> to, const void* from) {
    ++waits_;
    Operation run(*this, "download");
    run.floats(static_cast<const float*>(from), static_cast<std::int64_t>(to.size() / 4));
    cpu_->download(run.host(to), from);
}

// ---- products

std::size_t GuardedBackend::packed_bytes(Dtype dtype, std::int64_t out, std::int64_t in) const {
    return cpu_->packed_bytes(dtype, out, in);
}

void GuardedBackend::pack(std::byte* memory, Dtype dtype, std::span<const float> values,
                          std::int64_t out, std::int64_t in) {
    Operation run(*this, "pack");
    run.packed({memory, packed_bytes(dtype, out, in), dtype, out, in});
    cpu_->pack(memory, dtype, run.host(values), out, in);
}

void GuardedBackend::pack_bf16(std::byte* memory, Dtype dtype, HostParts rows, std::int64_t out,
                               std::int64_t in) {
    Operation run(*this, "pack_bf16");
    run.packed({memory, packed_bytes(dtype, out, in), dtype, out, in});
    for (const std::span<const std::byte> part : run.host(rows)) run.host(part);
    cpu_->pack_bf16(memory, dtype, rows, out, in);
}

void GuardedBackend::repack(std::byte* memory, Dtype dtype, const float* values, std::int64_t out,
                            std::int64_t in) {
    Operation run(*this, "repack");
    run.packed({memory, packed_bytes(dtype, out, in), dtype, out, in});
    cpu_->repack(memory, dtype, run.floats(values, out * in), out, in);
}

void GuardedBackend::linear(TensorView y, TensorView x, const PackedWeight& w, const float* bias,
                            bool accumulate) {
    Operation run(*this, "linear");
    const TensorView to = y.dtype == Dtype::fp32 ? run.fp32(y)
                          : accumulate           ? run.in_out(y)
                                                 : run.out(y);
    cpu_->linear(to, run.in(x), run.packed(w), run.floats(bias, w.out), accumulate);
}

void GuardedBackend::linear_dx(TensorView dx, TensorView dy, const PackedWeight& w,
                               bool accumulate) {
    Operation run(*this, "linear_dx");
    const TensorView to = accumulate ? run.in_out(dx) : run.out(dx);
    cpu_->linear_dx(to, run.in(dy), run.packed(w), accumulate);
}

void GuardedBackend::linear_dw(TensorView dw, float* dbias, TensorView dy, TensorView x) {
    Operation run(*this, "linear_dw");
    cpu_->linear_dw(run.fp32(dw), run.floats(dbias, dy.cols), run.in(dy), run.in(x));
}

// ---- adapters

void GuardedBackend::lora(std::span<const LoraLayer> layers, TensorView x, const Slots& slots,
                          const Dropout& dropout, const Rotary& rotary) {
    Operation run(*this, "lora");
    run.rows(slots, dropout);
    run.rows(rotary);
    std::vector<LoraLayer> inner = run.layers(layers, x.cols);
    for (LoraLayer& layer : inner) layer.y = run.in_out(layer.y), layer.s = run.out(layer.s);
    cpu_->lora(inner, run.in(x), slots, dropout, rotary);
}

void GuardedBackend::lora_backward(TensorView dx, TensorView ds, std::span<const LoraLayer> layers,
                                   TensorView x, const Slots& slots, const Dropout& dropout) {
    Operation run(*this, "lora_backward");
    run.rows(slots, dropout);
    std::vector<LoraLayer> inner = run.layers(layers, x.cols);
    for (LoraLayer& layer : inner) layer.y = run.in(layer.y), layer.s = run.in(layer.s);
    cpu_->lora_backward(run.in_out(dx), run.out(ds), inner, run.in(x), slots, dropout);
}

void GuardedBackend::lora_swiglu_backward(TensorView dgate, TensorView dup, TensorView d_act,
                                          TensorView ds, const LoraLayer& down, TensorView act,
                                          TensorView gate, TensorView up, const Slots& slots,
                                          const Dropout& dropout) {
    swiglu(act, gate, up);
    Backend::lora_swiglu_backward(dgate, dup, d_act, ds, down, act, gate, up, slots, dropout);
}

// ---- the rest of a layer

void GuardedBackend::rms_norm(TensorView y, TensorView x, TensorView residual, const float* gain,
                              float eps) {
    if (residual.data != nullptr) {
        Operation run(*this, "rms_norm");
        cpu_->rms_norm(run.out(y), run.in_out(x), run.in(residual), run.floats(gain, x.cols), eps);
    }
    if (residual.data != nullptr && activations_ == Dtype::fp32) return;
    Operation run(*this, "rms_norm");  // of x as it is stored: the sum is rounded before
    cpu_->rms_norm(run.out(y), run.in(x), {}, run.floats(gain, x.cols), eps);
}

void GuardedBackend::rms_norm_backward(TensorView dx, TensorView dy, TensorView x,
                                       const float* gain, float eps) {
    Operation run(*this, "rms_norm_backward");
    cpu_->rms_norm_backward(run.in_out(dx), run.in(dy), run.in(x), run.floats(gain, x.cols), eps);
}

void GuardedBackend::head_rms_norm(TensorView y, TensorView x, std::int64_t heads,
                                   const float* gain, float eps) {
    Operation run(*this, "head_rms_norm");
    cpu_->head_rms_norm(run.out(y), run.in(x), heads, run.floats(gain, x.cols / heads), eps);
}

void GuardedBackend::head_rms_norm_backward(TensorView dx, TensorView dy, TensorView x,
                                            std::int64_t heads, const float* gain, float eps) {
    Operation run(*this, "head_rms_norm_backward");
    cpu_->head_rms_norm_backward(run.out(dx), run.in(dy), run.in(x), heads,
                                 run.floats(gain, x.cols / heads), eps);
}

void GuardedBackend::rms_norm_dgain(std::span<float> dgain, TensorView dy, TensorView x,
                                    float eps) {
    Operation run(*this, "rms_norm_dgain");
    cpu_->rms_norm_dgain(run.vector(dgain), run.in(dy), run.in(x), eps);
}

void GuardedBackend::rope(TensorView x, std::int64_t heads, const Rotary& rotary, bool inverse) {
    Operation run(*this, "rope");
    run.rows(rotary);
    cpu_->rope(run.in_out(x), heads, rotary, inverse);
}

void GuardedBackend::attention(TensorView out, float* lse, TensorView q, TensorView k, TensorView v,
                               const AttentionShape& shape, const Sequences& sequences) {
    Operation run(*this, "attention");
    run.rows(sequences);
    cpu_->attention(run.out(out), run.floats(lse, shape.heads * q.rows), run.in(q), run.in(k),
                    run.in(v), shape, sequences);
}

void GuardedBackend::attention_backward(TensorView dq, TensorView dk, TensorView dv,
                                        TensorView dout, TensorView out, const float* lse,
                                        TensorView q, TensorView k, TensorView v,
                                        const AttentionShape& shape, const Sequences& sequences,
                                        const Rotary& rotary) {
    Operation run(*this, "attention_backward");
    run.rows(sequences), run.rows(rotary);
    cpu_->attention_backward(run.out(dq), run.out(dk), run.out(dv), run.in(dout), run.in(out),
                             run.floats(lse, shape.heads * q.rows), run.in(q), run.in(k), run.in(v),
                             shape, sequences, rotary);
}

void GuardedBackend::swiglu(TensorView y, TensorView gate, TensorView up) {
    Operation run(*this, "swiglu");
    cpu_->swiglu(run.out(y), run.in(gate), run.in(up));
}

void GuardedBackend::swiglu_backward(TensorView dgate, TensorView dup, TensorView dy,
                                     TensorView gate, TensorView up) {
    Operation run(*this, "swiglu_backward");
    cpu_->swiglu_backward(run.out(dgate), run.out(dup), run.in(dy), run.in(gate), run.in(up));
}

void GuardedBackend::embedding(TensorView y, TensorView table,
                               std::span<const std::int32_t> tokens) {
    Operation run(*this, "embedding");
    cpu_->embedding(run.out(y), run.fp32(table), run.host(tokens));
}

void GuardedBackend::embedding_backward(TensorView dtable, TensorView dy,
                                        std::span<const std::int32_t> tokens) {
    Operation run(*this, "embedding_backward");
    cpu_->embedding_backward(run.fp32(dtable), run.in(dy), run.host(tokens));
}

void GuardedBackend::cross_entropy(std::span<double> loss, TensorView dx, TensorView dhead,
                                   TensorView x, const PackedWeight& head,
                                   std::span<const std::int32_t> targets,
                                   std::span<const float> weight, std::span<std::int32_t> best) {
    ++waits_;
    Operation run(*this, "cross_entropy");
    cpu_->cross_entropy(run.host(loss), run.out(dx), run.fp32(dhead), run.in(x), run.packed(head),
                        run.host(targets), run.host(weight), run.host(best));
}

void GuardedBackend::gather_rows(TensorView y, TensorView x, std::span<const std::int64_t> rows) {
    Operation run(*this, "gather_rows");
    cpu_->gather_rows(run.out(y), run.in(x), run.host(rows));
}

void GuardedBackend::scatter_add_rows(TensorView y, TensorView x,
                                      std::span<const std::int64_t> rows) {
    Operation run(*this, "scatter_add_rows");
    cpu_->scatter_add_rows(run.in_out(y), run.in(x), run.host(rows));
}

// ---- flat vectors

void GuardedBackend::adamw(std::span<float> x, std::span<const float> g, std::span<float> m,
                           std::span<float> v, const AdamW& settings) {
    Operation run(*this, "adamw");
    cpu_->adamw(run.vector(x), run.vector(g), run.vector(m), run.vector(v), settings);
}

void GuardedBackend::sgd(std::span<float> x, std::span<const float> g, double lr,
                         double weight_decay) {
    Operation run(*this, "sgd");
    cpu_->sgd(run.vector(x), run.vector(g), lr, weight_decay);
}

void GuardedBackend::scale(std::span<float> x, float factor) {
    Operation run(*this, "scale");
    cpu_->scale(run.vector(x), factor);
}

void GuardedBackend::fill(std::span<float> x, float value) {
    Operation run(*this, "fill");
    cpu_->fill(run.vector(x), value);
}

void GuardedBackend::copy(std::span<float> to, std::span<const float> from) {
    Operation run(*this, "copy");
    cpu_->copy(run.vector(to), run.vector(from));
}

double GuardedBackend::squared_norm(std::span<const float> x) {
    ++waits_;
    Operation run(*this, "squared_norm");
    return cpu_->squared_norm(run.vector(x));
}

double GuardedBackend::squared_distance(std::span<const float> x, std::span<const float> x0) {
    ++waits_;
    Operation run(*this, "squared_distance");
    return cpu_->squared_distance(run.vector(x), run.vector(x0));
}

void GuardedBackend::accumulate_fixed(std::span<std::uint64_t> words, std::span<const float> x,
                                      std::span<const float> x0, double weight) {
    Operation run(*this, "accumulate_fixed");
    cpu_->accumulate_fixed(run.vector(words), run.vector(x), run.vector(x0), weight);
}

}  // namespace fedit::test
