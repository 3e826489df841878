// tests/fuzz/safetensors_fuzz.cpp: a safetensors file; every tensor is read in every way there is.
#include "fedit/io/safetensors.h"

#include "fedit/io/sha256.h"
#include "tests/fuzz/input_file.h"

namespace {

void read_tensors(const fedit::SafetensorsFile& file, std::size_t file_size) {
    using fedit::fuzz::judge;
    using fedit::fuzz::require;
    std::size_t total = 0;
    for (const auto& [name, tensor] : file.tensors()) {
        const std::span<const std::byte> bytes = file.bytes(name);
        total += bytes.size();
        require(total < file_size, "the tensors together are smaller than their file");
        require(static_cast<std::size_t>(tensor.elements()) * size_of(tensor.type) == bytes.size(),
                "elements fill their bytes");
        (void)fedit::Sha256().add(bytes).finish();  // touches every byte
        judge([&, &key = name] { (void)file.read_floats(key); });
        judge([&, &key = name] { (void)file.read_int32(key); });
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const fedit::fuzz::InputFolder folder;
    return fedit::fuzz::judge([&] {
        const auto path = folder.write("model.safetensors", fedit::fuzz::text_of(data, size));
        const fedit::SafetensorsFile file(path);
        read_tensors(file, size);
        (void)file.tensor("weight");  // most inputs lack it: the search for similar names
    });
}
