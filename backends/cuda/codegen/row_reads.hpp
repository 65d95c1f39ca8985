// SPDX-License-Identifier: Apache-2.0
/// What the bodies of a Rowwise node read at the coordinates of the element itself: kernels fetch that once and hand it to the bodies as variables.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "codegen/kernels.hpp"

namespace ai_vmm::cuda {

class RowReads {
public:
    struct Read {
        std::size_t input = 0;
        std::vector<std::string> at;  ///< per dimension of the value: "i2" or "0"
        bool stage = false;           ///< some stage reads it, not the result alone
        bool element = false;         ///< it differs along the row
        bool vector = false;          ///< several elements are read at a time
    };

    RowReads(const Graph& graph, const Node& node);

    /// The body with reads of the element itself replaced by variables: e2_ for reads[2]. @param stage  the body is a stage's.
    std::string rewritten(const std::string& body, bool stage);

    std::vector<Read> reads;
    std::vector<bool> reduced;  ///< per dimension of the space

private:
    /// The number of the read of input `input` at coordinates `text`, if it is of the element itself.
    std::optional<std::size_t> find(std::size_t input, const std::string& text, bool stage);

    const Graph& graph_;
    const Node& node_;
};

/// Whether `width` elements from every multiple of it along the space's dimension `inner` lie side by side at addresses that wide accesses take,
/// where the value is read at coordinates `at`.
[[nodiscard]] bool lies_in_vectors(const Value& value, const Place& place, const std::vector<std::string>& at, int inner, std::int64_t width);

}  // namespace ai_vmm::cuda
