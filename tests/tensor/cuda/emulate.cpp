// tests/tensor/cuda/emulate.cpp: fibres, their barriers, and the order in which they run.
#include "tests/tensor/cuda/emulate.h"

#include <ucontext.h>

#include <deque>
#include <exception>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace fedit::emulate {

namespace {

constexpr std::size_t stack_bytes = 256 << 10;
constexpr int warp_lanes = 32;
constexpr std::size_t shared_alignment = 1024;
constexpr int poison = 0xff;  // NaN as fp32, bf16 and double; -1 as an integer

struct FreeShared {
    void operator()(unsigned char* memory) const {
        ::operator delete[](memory, std::align_val_t{shared_alignment});
    }
};

/// Threads that wait for each other; a round ends when the last one has arrived.
struct Barrier {
    int arrived = 0, round = 0;
};

struct Copy {
    void* to;
    const void* from;
    std::size_t bytes;
};

struct Fibre {
    ucontext_t context{};
    std::unique_ptr<std::byte[]> stack = std::make_unique_for_overwrite<std::byte[]>(stack_bytes);
    const Barrier* waits_for = nullptr;
    int round = 0;               ///< of that barrier, when the wait began
    int exchanges = 0;           ///< of the thread with its warp
    std::vector<Copy> copies{};  ///< under way
    /// Products under way; the last batch is not yet committed.
    std::deque<std::vector<std::function<void()>>> batches{1};
    bool done = false;

    bool can_run() const { return !done && (waits_for == nullptr || waits_for->round != round); }
};

/// Two sets of slots in turn: a lane that writes the next value overwrites nothing that another
/// still reads, because all have arrived at the exchange between.
struct Warp {
    Barrier barrier;
    std::array<Slots, 2> slots;
};

class Machine {
public:
    void run(const cuda::Grid& grid, const Settings& settings, const std::function<void()>& kernel);

    int lane() const { return running_ % warp_lanes; }
    const Slots& exchange_bytes(const void* mine, std::size_t bytes);
    void wait_for_block(const Site& site);
    void start_copy(const Copy& copy);
    void finish_copies();
    void start_product(std::function<void()> product);
    void commit_products() { running().batches.emplace_back(); }
    void finish_products(int pending);
    unsigned char* dynamic_shared() { return dynamic_shared_.get(); }
    void register_shared(void* memory, std::size_t bytes);

private:
    static void enter();  ///< a fibre's first function
    void run_block();
    void run_until_all_wait();
    bool run_warp(int warp);
    void resume(int thread);
    void yield();
    void leave();
    void wait(Barrier& barrier, int count);
    void release_block();
    Fibre& running() { return fibres_[static_cast<std::size_t>(running_)]; }

    struct Shared {
        void* memory;
        std::size_t bytes;
    };

    const std::function<void()>* kernel_ = nullptr;
    Settings settings_;
    int threads_ = 0, running_ = 0, alive_ = 0;
    ucontext_t scheduler_{};
    std::vector<Fibre> fibres_;
    std::vector<Warp> warps_;
    Barrier block_barrier_;
    Site block_site_;  ///< where the threads that wait for the block do so
    bool block_released_ = false;
    std::vector<Shared> shared_;
    std::unique_ptr<unsigned char[], FreeShared> dynamic_shared_;  ///< no byte more than asked for
    std::exception_ptr error_;
};

/// The one emulated GPU: kernels find their thread in global names, as CUDA's do.
Machine& machine() {
    static Machine instance;
    return instance;
}

void Machine::run(const cuda::Grid& grid, const Settings& settings,
                  const std::function<void()>& kernel) {
    if (grid.x < 1 || grid.y < 1 || grid.threads < 1 || grid.threads > 1024 ||
        grid.threads % warp_lanes != 0 || grid.y > 65535) {
        throw std::runtime_error("invalid configuration of a launch");
    }
    kernel_ = &kernel;
    settings_ = settings;
    threads_ = grid.threads;
    blockDim = {static_cast<unsigned>(grid.threads)};
    gridDim = {static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y)};
    if (fibres_.size() < static_cast<std::size_t>(threads_)) {
        fibres_.resize(static_cast<std::size_t>(threads_));
    }
    dynamic_shared_.reset(
        new (std::align_val_t{shared_alignment}) unsigned char[grid.shared_bytes]);
    for (unsigned y = 0; y < gridDim.y; ++y) {
        for (unsigned x = 0; x < gridDim.x; ++x) {
            blockIdx = {x, y, 0};
            std::memset(dynamic_shared_.get(), poison, grid.shared_bytes);
            run_block();
        }
    }
}

void Machine::run_block() {
    warps_.assign(static_cast<std::size_t>(threads_ / warp_lanes), {});
    for (const Shared& shared : shared_) std::memset(shared.memory, poison, shared.bytes);
    block_barrier_ = {};
    error_ = nullptr;
    alive_ = threads_;
    for (int i = 0; i < threads_; ++i) {
        Fibre& fibre = fibres_[static_cast<std::size_t>(i)];
        fibre.waits_for = nullptr;
        fibre.exchanges = 0;
        fibre.copies.clear();
        fibre.batches.assign(1, {});
        fibre.done = false;
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = fibre.stack.get();
        fibre.context.uc_stack.ss_size = stack_bytes;
        fibre.context.uc_link = &scheduler_;
        makecontext(&fibre.context, &Machine::enter, 0);
    }
    while (alive_ > 0) run_until_all_wait();
}

/// Until the block's barrier opens or nothing is left to run.
void Machine::run_until_all_wait() {
    block_released_ = false;
    bool ran = false;
    const int count = threads_ / warp_lanes;
    for (int i = 0; i < count && !block_released_; ++i) {
        const int warp = settings_.order == Order::first_to_last ? i : count - 1 - i;
        while (!block_released_ && run_warp(warp)) ran = true;
    }
    if (!ran && !block_released_) {
        throw std::runtime_error("threads of a block wait for others that do not come");
    }
}

/// Gives each lane a turn, until the block's barrier opens; whether one could use it.
bool Machine::run_warp(int warp) {
    bool ran = false;
    for (int i = 0; i < warp_lanes && !block_released_; ++i) {
        const int lane = settings_.order == Order::first_to_last ? i : warp_lanes - 1 - i;
        const int thread = warp * warp_lanes + lane;
        if (!fibres_[static_cast<std::size_t>(thread)].can_run()) continue;
        resume(thread);
        ran = true;
    }
    return ran;
}

void Machine::resume(int thread) {
    running_ = thread;
    threadIdx = {static_cast<unsigned>(thread), 0, 0};
    running().waits_for = nullptr;
    swapcontext(&scheduler_, &running().context);
    if (error_) std::rethrow_exception(error_);
}

void Machine::yield() {
    swapcontext(&running().context, &scheduler_);
}

void Machine::enter() {
    Machine& self = machine();
    try {
        (*self.kernel_)();
    } catch (...) {
        self.error_ = std::current_exception();
    }
    self.leave();
}

void Machine::leave() {
    running().done = true;
    --alive_;
    if (alive_ > 0 && block_barrier_.arrived == alive_) release_block();
}

/// Returns when `count` threads have arrived.
void Machine::wait(Barrier& barrier, int count) {
    Fibre& fibre = running();
    fibre.round = barrier.round;
    if (++barrier.arrived == count) {
        barrier.arrived = 0;
        ++barrier.round;
        return;
    }
    fibre.waits_for = &barrier;
    yield();
}

const Slots& Machine::exchange_bytes(const void* mine, std::size_t bytes) {
    Warp& warp = warps_[static_cast<std::size_t>(running_ / warp_lanes)];
    Slots& slots = warp.slots[static_cast<std::size_t>(running().exchanges++ % 2)];
    std::memcpy(slots[static_cast<std::size_t>(lane())].data(), mine, bytes);
    wait(warp.barrier, warp_lanes);
    return slots;
}

void Machine::release_block() {
    block_barrier_.arrived = 0;
    ++block_barrier_.round;
    block_released_ = true;
}

void Machine::wait_for_block(const Site& site) {
    if (settings_.sites != nullptr) settings_.sites->insert(site);
    if (settings_.without == site) return;
    if (block_barrier_.arrived == 0) block_site_ = site;
    if (block_site_ != site) {
        throw std::runtime_error("threads of a block wait at different barriers");
    }
    Fibre& fibre = running();
    fibre.round = block_barrier_.round;
    fibre.waits_for = &block_barrier_;
    if (++block_barrier_.arrived == alive_) release_block();
    yield();  // the last one too, so that the first warp of the order goes on first
}

void Machine::start_copy(const Copy& copy) {
    std::memset(copy.to, poison, copy.bytes);
    running().copies.push_back(copy);
}

void Machine::finish_copies() {
    for (const Copy& copy : running().copies) {
        if (copy.from == nullptr) {
            std::memset(copy.to, 0, copy.bytes);
        } else {
            std::memcpy(copy.to, copy.from, copy.bytes);
        }
    }
    running().copies.clear();
}

void Machine::start_product(std::function<void()> product) {
    running().batches.back().push_back(std::move(product));
}

void Machine::finish_products(int pending) {
    auto& batches = running().batches;
    for (; batches.size() > static_cast<std::size_t>(pending) + 1; batches.pop_front()) {
        for (const auto& product : batches.front()) product();
    }
}

void Machine::register_shared(void* memory, std::size_t bytes) {
    std::memset(memory, poison, bytes);
    shared_.push_back({memory, bytes});
}

}  // namespace

void run(const cuda::Grid& grid, const Settings& settings, const std::function<void()>& kernel) {
    machine().run(grid, settings, kernel);
}

int lane() {
    return machine().lane();
}

const Slots& exchange_bytes(const void* mine, std::size_t bytes) {
    return machine().exchange_bytes(mine, bytes);
}

void wait_for_block(const Site& site) {
    machine().wait_for_block(site);
}

void start_copy(void* to, const void* from, std::size_t bytes) {
    machine().start_copy({to, from, bytes});
}

void finish_copies() {
    machine().finish_copies();
}

void start_product(std::function<void()> product) {
    machine().start_product(std::move(product));
}

void commit_products() {
    machine().commit_products();
}

void finish_products(int pending) {
    machine().finish_products(pending);
}

unsigned char* dynamic_shared_bytes() {
    return machine().dynamic_shared();
}

void register_shared(void* memory, std::size_t bytes) {
    machine().register_shared(memory, bytes);
}

}  // namespace fedit::emulate
