// tensor/cuda/products.cpp: finds plans, remembers them, and launches.
#include "tensor/cuda/products.h"

#include <fmt/format.h>

#include <array>
#include <span>

#include "fedit/core/error.h"

namespace fedit::cuda {

namespace {

/// Row counts differ from batch to batch, so plans of old shapes are forgotten.
constexpr std::size_t max_plans = 4096;
constexpr int max_candidates = 8;

LtHandle make_handle() {
    cublasLtHandle_t handle = nullptr;
    check(cublasLtCreate(&handle), "start cuBLASLt");
    return LtHandle(handle);
}

LtPreference make_preference(const Product& product) {
    cublasLtMatmulPreference_t raw = nullptr;
    check(cublasLtMatmulPreferenceCreate(&raw), "prepare the search for a product's plan");
    LtPreference preference(raw);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
        check(cublasLtMatmulPreferenceSetAttribute(raw, attribute, &value, sizeof value),
              "prepare the search for a product's plan");
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{Products::workspace_bytes});
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
    // The default claims 256 bytes, which views into larger matrices do not have.
    const auto alignment = static_cast<std::uint32_t>(product.alignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment);
    return preference;
}

/// The preference asks for plans without parts already; a kernel that knows no such attribute has
/// none.
bool splits_depth(const cublasLtMatmulAlgo_t& algorithm) {
    std::int32_t parts = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoConfigGetAttribute(
        &algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts, nullptr);
    return status == CUBLAS_STATUS_SUCCESS && parts > 1;
}

std::string to_text(const Product& p) {
    return fmt::format("{} x {} x {}, strides {}, {} and {}, {} to {}, addresses multiples of {}",
                       p.m, p.n, p.k, p.lda, p.ldb, p.ldd, to_string(p.operands),
                       to_string(p.output), p.alignment);
}

/// The best candidate that sums in one chain.
const cublasLtMatmulHeuristicResult_t& first_usable(
    std::span<const cublasLtMatmulHeuristicResult_t> candidates, const Product& product) {
    for (const cublasLtMatmulHeuristicResult_t& candidate : candidates) {
        if (candidate.state == CUBLAS_STATUS_SUCCESS && !splits_depth(candidate.algo)) {
            return candidate;
        }
    }
    throw RunError({.what = "cuBLASLt has no plan for a matrix product",
                    .where = to_text(product),
                    .remedy = "report it with the model's config.json and `fedit doctor`"});
}

}  // namespace

Products::Products(cudaStream_t stream)
    : stream_(stream), handle_(make_handle()), workspace_(allocate_device(workspace_bytes)) {}

const Products::Plan& Products::plan_for(const Product& product) {
    if (const auto known = plans_.find(product); known != plans_.end()) return known->second;
    ProductDescription description(product);
    const LtPreference preference = make_preference(product);
    std::array<cublasLtMatmulHeuristicResult_t, max_candidates> found{};
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_.get(), description.operation(), description.a(), description.b(), description.d(),
        description.d(), preference.get(), max_candidates, found.data(), &count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "find a plan for a matrix product");
    const auto& best =
        first_usable(std::span(found).first(static_cast<std::size_t>(count)), product);
    if (plans_.size() >= max_plans) plans_.clear();
    return plans_.emplace(product, Plan{std::move(description), best.algo, best.workspaceSize})
        .first->second;
}

void Products::multiply(const ProductCall& call) {
    const Product& product = call.product;
    if (product.m == 0 || product.n == 0) return;
    if (product.k == 0 && product.result == Result::add) return;
    std::int64_t begin = 0;
    do {
        launch(part_of_depth(call, begin));
        begin += terms_at_once(product);
    } while (begin < product.k);
}

void Products::launch(const ProductCall& call) {
    const Product& product = call.product;
    const Plan& plan = plan_for(product);
    const ProductDescription& p = plan.description;
    const float alpha = 1;
    const float beta = product.result == Result::add ? 1 : 0;
    check(cublasLtMatmul(handle_.get(), p.operation(), &alpha, call.a, p.a(), call.b, p.b(), &beta,
                         call.d, p.d(), call.d, p.d(), &plan.algorithm, workspace_.get(),
                         plan.workspace, stream_),
          "a matrix product");
}

}  // namespace fedit::cuda
