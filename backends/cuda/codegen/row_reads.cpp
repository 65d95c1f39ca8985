// SPDX-License-Identifier: Apache-2.0
#include "codegen/row_reads.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "codegen/text.hpp"

namespace ai_vmm::cuda {

RowReads::RowReads(const Graph& graph, const Node& node) : graph_(graph), node_(node) {
    const Rowwise& what = std::get<Rowwise>(node.what);
    reduced.assign(what.space.size(), false);
    for (int axis : what.axes) reduced[static_cast<std::size_t>(axis)] = true;
}

std::string RowReads::rewritten(const std::string& body, bool stage) {
    std::string out;
    for (std::size_t at = 0; at < body.size();) {
        const bool boundary = at == 0 || (std::isalnum(static_cast<unsigned char>(body[at - 1])) == 0 && body[at - 1] != '_');
        std::size_t end = at + 2;
        if (boundary && body.compare(at, 2, "in") == 0) {
            while (end < body.size() && std::isdigit(static_cast<unsigned char>(body[end])) != 0) ++end;
            if (end > at + 2 && end < body.size() && body[end] == '(') {
                const std::size_t input = static_cast<std::size_t>(std::stoi(body.substr(at + 2, end - at - 2)));
                const std::size_t close = body.find(')', end);
                if (close != std::string::npos && input < node_.inputs.size()) {
                    if (const auto read = find(input, body.substr(end + 1, close - end - 1), stage)) {
                        out += fmt::format("e{}_", *read);
                        at = close + 1;
                        continue;
                    }
                }
            }
        }
        out += body[at++];
    }
    return out;
}

std::optional<std::size_t> RowReads::find(std::size_t input, const std::string& text, bool stage) {
    const Dims& space = std::get<Rowwise>(node_.what).space;
    const Value& value = graph_.value(node_.inputs[input]);
    Read read;
    read.input = input;
    std::string one;
    const auto finish = [&] {
        const auto from = one.find_first_not_of(' '), to = one.find_last_not_of(' ');
        if (from != std::string::npos) read.at.push_back(one.substr(from, to - from + 1));
        one.clear();
    };
    for (char c : text) {
        if (c == ',') {
            finish();
        } else {
            one += c;
        }
    }
    finish();
    if (read.at.size() != value.dims.size()) return std::nullopt;
    for (std::string& coordinate : read.at) {
        if (coordinate == "0") continue;
        if (coordinate.size() < 2 || coordinate[0] != 'i' ||
            !std::all_of(coordinate.begin() + 1, coordinate.end(), [](unsigned char c) { return std::isdigit(c) != 0; }))
            return std::nullopt;
        const auto d = static_cast<std::size_t>(std::stoi(coordinate.substr(1)));
        if (d >= space.size()) return std::nullopt;
        if (space[d] == 1) {
            coordinate = "0";
        } else if (reduced[d]) {
            read.element = true;
        }
    }
    const auto found = std::find_if(reads.begin(), reads.end(), [&](const Read& known) { return known.input == input && known.at == read.at; });
    if (found != reads.end()) {
        found->stage = found->stage || stage;
        return static_cast<std::size_t>(found - reads.begin());
    }
    read.stage = stage;
    reads.push_back(std::move(read));
    return reads.size() - 1;
}

bool lies_in_vectors(const Value& value, const Place& place, const std::vector<std::string>& at, int inner, std::int64_t width) {
    if (scalar_literal(value) || bits(value.type) < 8) return false;
    const std::int64_t size = bits(value.type) / 8, total = width * size, unit = std::min<std::int64_t>(16, total);
    if (total < 8 || place.offset * size % unit != 0) return false;
    bool along = false;
    for (std::size_t d = 0; d < at.size(); ++d) {
        if (at[d] == "0") continue;
        if (at[d] == fmt::format("i{}", inner)) {
            if (along || place.strides[d] != 1) return false;
            along = true;
        } else if (place.strides[d] * size % unit != 0) {
            return false;
        }
    }
    return along;
}

}  // namespace ai_vmm::cuda
