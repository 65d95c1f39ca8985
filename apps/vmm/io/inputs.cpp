// SPDX-License-Identifier: Apache-2.0
#include "io/inputs.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "io/file.hpp"
#include "io/npy.hpp"
#include "io/values.hpp"

namespace ai_vmm::cli {
namespace {

std::string describe(const TensorInfo& info) { return fmt::format("{}{}", to_string(info.type), info.rank_known ? to_string(info.shape) : "[…]"); }

std::string list_names(std::span<const TensorInfo> infos) {
    std::string names;
    for (const TensorInfo& info : infos) names += fmt::format("{}'{}'", names.empty() ? "" : ", ", info.name);
    return names;
}

bool fits(const Shape& shape, const TensorInfo& info) {
    if (!info.rank_known) return true;
    if (shape.size() != info.shape.size()) return false;
    for (std::size_t d = 0; d < shape.size(); ++d) {
        if (info.shape[d] >= 0 && info.shape[d] != shape[d]) return false;
    }
    return true;
}

/// The array as the input wants it: leading ones added or removed, numbers converted.
Tensor adapt(Tensor tensor, const TensorInfo& info, std::vector<std::string>& notes) {
    if (!fits(tensor.shape(), info)) {
        Shape shape = tensor.shape();
        while (shape.size() < info.shape.size()) shape.insert(shape.begin(), 1);
        while (shape.size() > info.shape.size() && !shape.empty() && shape.front() == 1) shape.erase(shape.begin());
        if (!fits(shape, info)) {
            throw input_error(
                fmt::format("the values for input '{}' have another shape", info.name),
                {.expected = describe(info), .found = fmt::format("{}{}", to_string(tensor.type()), to_string(tensor.shape())), .advice = {}});
        }
        tensor = tensor.reshaped(std::move(shape));
    }
    if (tensor.type() != info.type && info.type != ElementType::undefined) {
        notes.push_back(fmt::format("'{}': {} converted to {}", info.name, to_string(tensor.type()), to_string(info.type)));
        tensor = cast(tensor, info.type);
    }
    return tensor;
}

Tensor from_content(const std::string& content, std::string_view file, const TensorInfo& info, const InputOptions& options,
                    std::vector<std::string>& notes) {
    if (is_npy(content)) return adapt(parse_npy(content, file, info.type), info, notes);
    if (is_npz(content)) {
        TensorMap arrays = parse_npz(content, file);
        if (const Tensor* array = arrays.find(info.name)) return adapt(*array, info, notes);
        if (arrays.size() == 1) return adapt(arrays.begin()->second, info, notes);
        throw Error(ErrorCode::not_found, ErrorCategory::input, fmt::format("'{}' has no array named '{}'", file, info.name));
    }
    if (is_image(content)) return image_tensor(content, file, info, options.image);
    if (is_audio(content)) {
        int rate = 0;
        Tensor tensor = audio_tensor(content, file, info, options.audio, &rate);
        if (!options.audio.sample_rate)
            notes.push_back(fmt::format("'{}': recorded at {} Hz (give --sample-rate to have the rate checked)", info.name, rate));
        return tensor;
    }
    throw input_error(fmt::format("'{}' is no input that vmm reads", file),
                      {.expected = "NumPy .npy or .npz, PNG, JPEG, BMP, WAV, FLAC or Ogg",
                       .found = content.empty() ? "an empty file"
                                                : fmt::format("{} bytes that start with \"{:.16}\"", content.size(),
                                                              content.substr(0, content.find_first_of(std::string_view("\r\n\0", 3)))),
                       .advice = "convert it with numpy.save"});
}

}  // namespace

std::pair<std::string, Shape> parse_shape(std::string_view text) {
    const std::size_t equals = text.rfind('=');
    const auto refuse = [&] {
        return input_error(fmt::format("'{}' is no shape", text), {.expected = "name=1x3x224x224, each size 0 or more",
                                                                   .found = std::string(text),
                                                                   .advice = "`vmm inspect MODEL` shows names and shapes"});
    };
    if (equals == std::string_view::npos || equals == 0) throw refuse();
    std::pair<std::string, Shape> result(std::string(text.substr(0, equals)), Shape{});
    std::string_view sizes = text.substr(equals + 1);
    if (sizes.starts_with('[') && sizes.ends_with(']')) sizes = sizes.substr(1, sizes.size() - 2);
    while (!sizes.empty()) {
        std::int64_t size = -1;
        const auto [stop, error] = std::from_chars(sizes.data(), sizes.data() + sizes.size(), size);
        if (error != std::errc{} || size < 0) throw refuse();
        result.second.push_back(size);
        sizes.remove_prefix(static_cast<std::size_t>(stop - sizes.data()));
        if (sizes.empty()) break;
        if ((sizes[0] != 'x' && sizes[0] != ',') || sizes.size() == 1) throw refuse();
        sizes.remove_prefix(1);
    }
    static_cast<void>(element_count(result.second));  // refuses overflow
    return result;
}

Inputs gather_inputs(std::span<const TensorInfo> infos, const InputOptions& options) {
    Inputs inputs;
    TensorMap found;
    const auto info_of = [&](std::string_view name) { return std::ranges::find(infos, name, &TensorInfo::name); };
    const auto add = [&](const TensorInfo& info, Tensor tensor) {
        if (found.find(info.name) != nullptr) throw input_error(fmt::format("input '{}' is given twice", info.name));
        found.push_back(info.name, std::move(tensor));
    };
    for (const std::string& given : options.given) {
        // The longest prefix before a '=' that names an input: names may hold '=' themselves.
        const TensorInfo* info = nullptr;
        std::string value = given;
        for (std::size_t at = given.rfind('='); at != std::string::npos && at > 0; at = given.rfind('=', at - 1)) {
            const auto known = info_of(std::string_view(given).substr(0, at));
            if (known != infos.end()) {
                info = &*known;
                value = given.substr(at + 1);
                break;
            }
        }
        const bool marked = value.starts_with('@');
        const std::string path = marked ? value.substr(1) : value;
        const bool file = marked || (::access(path.c_str(), F_OK) == 0 && !path.empty());
        if (info == nullptr && !file) {
            if (const std::size_t equals = given.find('='); equals != std::string::npos && equals > 0) {
                throw input_error(fmt::format("no input is named '{}'", given.substr(0, equals)),
                                  {.expected = "one of " + list_names(infos), .found = given, .advice = {}});
            }
        }
        if (file) {
            const std::string content = read_input(path);
            if (info == nullptr && is_npz(content)) {  // every array by its name
                const TensorMap arrays = parse_npz(content, path);
                for (const auto& [name, array] : arrays) {
                    const auto known = info_of(name);
                    if (known != infos.end()) {
                        add(*known, adapt(array, *known, inputs.notes));
                    } else if (arrays.size() == 1 && infos.size() == 1) {
                        add(infos[0], adapt(array, infos[0], inputs.notes));
                    } else {
                        throw input_error(fmt::format("'{}' holds an array '{}' that no input is named after", path, name),
                                          {.expected = "names " + list_names(infos), .found = name, .advice = {}});
                    }
                }
                continue;
            }
            if (info == nullptr && infos.size() != 1) {
                throw input_error(fmt::format("the model has {} inputs: say which one '{}' is", infos.size(), given),
                                  {.expected = "name=file with one of " + list_names(infos), .found = given, .advice = {}});
            }
            const TensorInfo& target = info != nullptr ? *info : infos[0];
            add(target, from_content(content, path, target, options, inputs.notes));
            continue;
        }
        if (info == nullptr && infos.size() != 1) {
            throw Error(ErrorCode::not_found, ErrorCategory::input, fmt::format("no such file: '{}'", path),
                        {.expected = "a file, or name=value with one of " + list_names(infos), .found = given, .advice = {}});
        }
        const TensorInfo& target = info != nullptr ? *info : infos[0];
        if (target.type != ElementType::string && !looks_like_numbers(value)) {
            throw Error(ErrorCode::not_found, ErrorCategory::input, fmt::format("no such file: '{}'", path),
                        {.expected = "a file, or numbers such as 1.5,2,3", .found = value, .advice = {}});
        }
        add(target, tensor_from_text(value, target));
    }
    std::string missing;
    for (const TensorInfo& info : infos) {
        if (const Tensor* tensor = found.find(info.name)) {
            inputs.tensors.push_back(info.name, *tensor);
        } else if (!info.optional && !options.random) {
            missing += fmt::format("{}'{}' {}", missing.empty() ? "" : ", ", info.name, describe(info));
        }
    }
    if (!missing.empty()) {
        throw input_error("not every input is given", {.expected = missing,
                                                       .found = options.given.empty() ? "nothing" : fmt::format("{} given", found.size()),
                                                       .advice = "give --input name=file for each, or --random"});
    }
    return inputs;
}

}  // namespace ai_vmm::cli
