// io/safetensors_writer.cpp: lays out and encodes a safetensors file.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "fedit/core/error.h"
#include "fedit/io/safetensors.h"
#include "io/safetensors_header.h"

namespace fedit {
namespace {

using Vendor = nlohmann::ordered_json;

constexpr std::size_t header_alignment = 8;

void check_tensors(std::span<const TensorToWrite> tensors) {
    std::set<std::string> names{"__metadata__"};
    for (const TensorToWrite& tensor : tensors) {
        if (byte_size(tensor.type, tensor.shape) != tensor.bytes.size()) {
            throw ShapeError(
                {.what = fmt::format("{} bytes given for {} [{}]", tensor.bytes.size(),
                                     to_string(tensor.type), fmt::join(tensor.shape, ", ")),
                 .where = "tensor " + tensor.name,
                 .remedy = "this is a mistake in fedit: please report it"});
        }
        if (!names.insert(tensor.name).second) {
            throw RunError({.what = "two tensors of one name in a safetensors file",
                            .where = "tensor " + tensor.name,
                            .remedy = "this is a mistake in fedit: please report it"});
        }
    }
}

}  // namespace

std::vector<std::byte> encode_safetensors(std::span<const TensorToWrite> tensors,
                                          const std::map<std::string, std::string>& metadata) {
    check_tensors(tensors);
    std::vector<const TensorToWrite*> order;
    for (const TensorToWrite& tensor : tensors) order.push_back(&tensor);
    std::ranges::sort(order, [](const TensorToWrite* a, const TensorToWrite* b) {
        const std::size_t size_a = size_of(a->type);
        const std::size_t size_b = size_of(b->type);
        return size_a != size_b ? size_a > size_b : a->name < b->name;
    });

    Vendor::object_t header;
    if (!metadata.empty()) header.push_back({"__metadata__", metadata});
    std::uint64_t end = 0;
    for (const TensorToWrite* tensor : order) {
        const std::uint64_t begin = end;
        end += tensor->bytes.size();
        header.push_back(
            {tensor->name, Vendor{{"dtype", to_string(tensor->type)},
                                  {"shape", tensor->shape},
                                  {"data_offsets", std::vector<std::uint64_t>{begin, end}}}});
    }
    std::string text = Vendor(std::move(header)).dump();
    text.resize((text.size() + header_alignment - 1) / header_alignment * header_alignment, ' ');

    const std::uint64_t length = text.size();
    std::vector<std::byte> file(sizeof length + text.size() + end);
    std::memcpy(file.data(), &length, sizeof length);
    std::memcpy(file.data() + sizeof length, text.data(), text.size());
    auto at = file.begin() + static_cast<std::ptrdiff_t>(sizeof length + text.size());
    for (const TensorToWrite* tensor : order) at = std::ranges::copy(tensor->bytes, at).out;
    return file;
}

}  // namespace fedit
