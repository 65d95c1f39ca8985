// SPDX-License-Identifier: Apache-2.0
#include "graph/formats/gguf_file.hpp"

#include <algorithm>
#include <bit>
#include <string>

#include "graph/bytes.hpp"

namespace ai_vmm::graph {
namespace {

constexpr std::uint64_t kMaxCount = std::uint64_t{1} << 24;  // metadata keys, tensors
constexpr std::uint64_t kMaxName = 65535;
constexpr int kMaxNesting = 4;

enum ValueType : std::uint32_t { kString = 8, kArray = 9 };

/// Bytes of a scalar metadata value; 0: no such type.
std::uint64_t scalar_size(std::uint32_t type) {
    constexpr std::uint64_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < std::size(kSizes) ? kSizes[type] : 0;
}

class Walk {
public:
    Walk(std::istream& file, std::uint64_t size, std::string_view shown_name) : shown_(shown_name), file_(file), size_(size) {}

    void check() {
        skip(4);  // magic, seen by the caller
        const auto version = number<std::uint32_t>("version");
        if (version < 2 || version > 3) fail("version", "2 or 3", std::to_string(version));
        const auto tensors = number<std::uint64_t>("tensor count");
        const auto keys = number<std::uint64_t>("metadata count");
        if (tensors > kMaxCount) fail("tensor count", "at most " + std::to_string(kMaxCount), std::to_string(tensors));
        if (keys > kMaxCount) fail("metadata count", "at most " + std::to_string(kMaxCount), std::to_string(keys));
        std::uint64_t alignment = 32, blocks = 0, widest = 0;
        for (std::uint64_t i = 0; i < keys; ++i) {
            const std::string key = name("metadata key");
            const auto type = number<std::uint32_t>("metadata type");
            if (key == "general.alignment" && type == 4) {
                alignment = number<std::uint32_t>("alignment");
                if (alignment == 0 || alignment % 8 != 0 || alignment > (1u << 20)) fail("alignment", "a multiple of 8", std::to_string(alignment));
            } else if (type == 4 && key.ends_with(".block_count")) {
                blocks = number<std::uint32_t>(key);
            } else if (type == 4 && (key.ends_with(".embedding_length") || key.ends_with(".feed_forward_length"))) {
                widest = std::max<std::uint64_t>(widest, number<std::uint32_t>(key));
            } else {
                value(type, key, 0);
            }
        }
        std::uint64_t furthest = 0;
        for (std::uint64_t i = 0; i < tensors; ++i) furthest = std::max(furthest, tensor_offset(alignment));
        // Readers size their graphs by these: each block has tensors, and each width is some tensor's.
        if (blocks > tensors) fail("block count", "at most one block per tensor, " + std::to_string(tensors), std::to_string(blocks));
        if (tensors > 0 && widest > largest_dimension_)
            fail("width", "at most the largest dimension of a tensor, " + std::to_string(largest_dimension_), std::to_string(widest));
        if (tensors == 0) {
            throw malformed(shown_ + " holds no tensors", "a GGUF model with its weights", "a GGUF file with metadata only (a vocabulary)",
                            "use the file that has the weights");
        }
        const std::uint64_t data = (offset_ + alignment - 1) / alignment * alignment;
        if (data > size_ || furthest >= size_ - data) {
            fail("tensor data", "tensors inside the file",
                 "a tensor at " + std::to_string(furthest) + " of " + std::to_string(size_ - std::min(data, size_)) + " bytes of data");
        }
    }

private:
    [[noreturn]] void fail(const std::string& what, const std::string& expected, const std::string& found) {
        throw malformed(shown_ + " is a damaged GGUF file: bad " + what + " before offset " + std::to_string(offset_), expected, found,
                        "get the file again; a copy made as text is not usable");
    }
    void need(std::uint64_t count, const std::string& what) {
        if (count > size_ - offset_) fail(what, std::to_string(count) + " bytes", std::to_string(size_ - offset_) + " bytes to the end of the file");
    }
    void skip(std::uint64_t count) {
        need(count, "length");
        offset_ += count;
        // Seeking throws the stream's buffer away: read over what is near.
        if (count < 4096) {
            file_.ignore(static_cast<std::streamsize>(count));
        } else {
            file_.seekg(static_cast<std::streamoff>(offset_));
        }
    }
    template <typename T>
    T number(const std::string& what) {
        need(sizeof(T), what);
        T result{};
        file_.read(reinterpret_cast<char*>(&result), sizeof(T));
        if (!file_) fail(what, "readable bytes", "a short read");
        offset_ += sizeof(T);
        return result;
    }
    std::string name(const std::string& what) {
        const auto length = number<std::uint64_t>(what);
        if (length == 0 || length > kMaxName) fail(what, "a name of 1 to " + std::to_string(kMaxName) + " bytes", std::to_string(length));
        need(length, what);
        std::string result(static_cast<std::size_t>(length), '\0');
        file_.read(result.data(), static_cast<std::streamsize>(length));
        offset_ += length;
        return result;
    }
    void value(std::uint32_t type, const std::string& key, int depth) {
        const std::string what = "value of '" + printable(key) + "'";
        if (type == kString) {
            const auto length = number<std::uint64_t>(what);
            need(length, what);
            skip(length);
        } else if (type == kArray) {
            const auto element = number<std::uint32_t>(what);
            const auto count = number<std::uint64_t>(what);
            if (depth >= kMaxNesting) fail(what, "arrays nested at most " + std::to_string(kMaxNesting) + " deep", "deeper ones");
            if (element == kString || element == kArray) {
                need(count, what);  // every element takes a byte at least
                for (std::uint64_t i = 0; i < count; ++i) value(element, key, depth + 1);
            } else {
                const std::uint64_t size = scalar_size(element);
                if (size == 0) fail(what, "a known element type", std::to_string(element));
                if (count > size_ / size) fail(what, "an array inside the file", std::to_string(count) + " elements");
                skip(count * size);
            }
        } else {
            const std::uint64_t size = scalar_size(type);
            if (size == 0) fail(what, "a known value type", std::to_string(type));
            skip(size);
        }
    }
    std::uint64_t tensor_offset(std::uint64_t alignment) {
        const std::string tensor = "tensor '" + printable(name("tensor name")) + "'";
        const auto dimensions = number<std::uint32_t>(tensor);
        if (dimensions > 8) fail(tensor, "at most 8 dimensions", std::to_string(dimensions));
        std::uint64_t elements = 1;
        for (std::uint32_t i = 0; i < dimensions; ++i) {
            const auto size = number<std::uint64_t>(tensor);
            if (size != 0 && elements > (std::uint64_t{1} << 48) / size) fail(tensor, "a possible shape", "too many elements");
            elements *= size;
            largest_dimension_ = std::max(largest_dimension_, size);
        }
        if (elements / 64 > size_) fail(tensor, "elements inside the file", std::to_string(elements) + " elements");
        const auto type = number<std::uint32_t>(tensor);
        if (type > 255) fail(tensor, "a known type", std::to_string(type));
        const auto offset = number<std::uint64_t>(tensor);
        if (offset % alignment != 0 || offset > size_) fail(tensor, "an aligned offset inside the file", std::to_string(offset));
        return offset;
    }

    std::string shown_;
    std::istream& file_;
    std::uint64_t size_;
    std::uint64_t offset_ = 0;
    std::uint64_t largest_dimension_ = 0;
};

}  // namespace

void check_gguf(std::istream& file, std::uint64_t size, std::string_view shown_name) {
    if constexpr (std::endian::native != std::endian::little) {
        throw Error(ErrorCode::unimplemented, ErrorCategory::compilation, "GGUF files are read on little-endian machines only");
    }
    Walk(file, size, shown_name).check();
}

}  // namespace ai_vmm::graph
