// experiment/shared_block.cpp: node-shared memory, or a block of a device that one rank exports.
#include "experiment/shared_block.h"

#include <exception>

#include "fedit/core/error.h"

namespace fedit {

SharedBlock::SharedBlock(const Communicator& node, Backend& backend, std::size_t bytes)
    : ranks_(node.alike(backend.info().device_id)), backend_(backend), size_(bytes) {
    if (backend.info().host_memory) {
        host_ = std::make_unique<SharedMemory>(ranks_.share(bytes));
        return;
    }
    ranks_.together("allocate the base model on the device", [&] {
        if (leader()) device_ = DeviceBuffer(backend_, size_);
    });
}

SharedBlock::~SharedBlock() {
    if (host_ != nullptr || ranks_.size() == 1 || std::uncaught_exceptions() > 0) return;
    if (!leader()) device_ = DeviceBuffer();
    try {
        ranks_.barrier();  // the leader's memory goes last
    } catch (const Error&) {
        return;  // a rank that no longer answers holds no mapping
    }
}

std::span<std::byte> SharedBlock::bytes() const {
    if (host_ != nullptr) return host_->bytes();
    return {device_.data(), device_.bytes()};
}

void SharedBlock::seal() {
    if (host_ != nullptr) return host_->seal();
    if (ranks_.size() == 1) return;
    Bytes handle;
    ranks_.together("share the base model of a device", [&] {
        if (leader()) handle = backend_.export_memory(device_.data());
    });
    ranks_.broadcast(handle, 0);
    ranks_.together("map the base model of a device", [&] {
        if (!leader()) device_ = DeviceBuffer(backend_, handle, size_);
    });
}

}  // namespace fedit
