// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sndfile.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "io/file.hpp"
#include "io/media.hpp"
#include "io/values.hpp"

namespace ai_vmm::cli {
namespace {

/// A file in memory, for sf_open_virtual().
struct Memory {
    std::string_view content;
    sf_count_t at = 0;
};

SF_VIRTUAL_IO memory_io() {
    SF_VIRTUAL_IO io{};
    io.get_filelen = [](void* user) { return static_cast<sf_count_t>(static_cast<Memory*>(user)->content.size()); };
    io.seek = [](sf_count_t offset, int whence, void* user) {
        auto* memory = static_cast<Memory*>(user);
        const auto size = static_cast<sf_count_t>(memory->content.size());
        const sf_count_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? memory->at : size;
        memory->at = std::clamp<sf_count_t>(base + offset, 0, size);
        return memory->at;
    };
    io.read = [](void* out, sf_count_t count, void* user) {
        auto* memory = static_cast<Memory*>(user);
        const sf_count_t left = static_cast<sf_count_t>(memory->content.size()) - memory->at;
        const sf_count_t taken = std::clamp<sf_count_t>(count, 0, left);
        std::memcpy(out, memory->content.data() + memory->at, static_cast<std::size_t>(taken));
        memory->at += taken;
        return taken;
    };
    io.write = [](const void*, sf_count_t, void*) { return sf_count_t{0}; };
    io.tell = [](void* user) { return static_cast<Memory*>(user)->at; };
    return io;
}

struct Recording {
    int rate = 0;
    std::vector<float> samples;
};

Recording decode(std::string_view content, std::string_view name) {
    Memory memory{content};
    SF_VIRTUAL_IO io = memory_io();
    SF_INFO info{};
    const std::unique_ptr<SNDFILE, decltype(&sf_close)> file(sf_open_virtual(&io, SFM_READ, &info, &memory), &sf_close);
    if (!file) {
        throw damaged(fmt::format("can't decode the recording '{}': {}", name, sf_strerror(nullptr)),
                      {.expected = "a WAV, FLAC or Ogg file", .found = {}, .advice = "save the recording again as 16-bit WAV"});
    }
    if (info.channels < 1 || info.channels > 64) throw damaged(fmt::format("the recording '{}' has {} channels", name, info.channels));
    Recording recording{.rate = info.samplerate};
    constexpr sf_count_t kFrames = 16384;
    constexpr std::size_t kLimit = std::size_t{1} << 28;  // 4.6 hours at 16 kHz
    std::vector<float> block(static_cast<std::size_t>(kFrames * info.channels));
    for (;;) {  // the length that the header states is not trusted
        const sf_count_t frames = sf_readf_float(file.get(), block.data(), kFrames);
        if (frames <= 0) break;
        for (sf_count_t f = 0; f < frames; ++f) {
            float sum = 0;
            for (int c = 0; c < info.channels; ++c) sum += block[static_cast<std::size_t>(f * info.channels + c)];
            recording.samples.push_back(sum / static_cast<float>(info.channels));
        }
        if (recording.samples.size() > kLimit) {
            throw Error(ErrorCode::resource_exhausted, ErrorCategory::input, fmt::format("the recording '{}' is too long", name),
                        {.expected = fmt::format("at most {} samples", kLimit), .found = {}, .advice = "cut it first"});
        }
    }
    if (recording.samples.empty()) throw damaged(fmt::format("the recording '{}' has no samples", name));
    return recording;
}

}  // namespace

bool is_audio(std::string_view content) noexcept {
    return (content.size() >= 12 && (content.starts_with("RIFF") || content.starts_with("RF64")) && content.substr(8, 4) == "WAVE") ||
           content.starts_with("fLaC") || content.starts_with("OggS");
}

Tensor audio_tensor(std::string_view content, std::string_view name, const TensorInfo& info, const AudioOptions& options, int* rate) {
    if (!info.rank_known)
        throw input_error(fmt::format("input '{}' has no fixed rank: a recording can't fill it", info.name),
                          {.expected = {}, .found = {}, .advice = "give the values as .npy"});
    Shape shape = info.shape;
    std::size_t free_dimension = shape.size();
    std::size_t known = 1;
    for (std::size_t d = 0; d < shape.size(); ++d) {
        if (shape[d] >= 0) {
            known *= static_cast<std::size_t>(shape[d]);
            continue;
        }
        shape[d] = 1;
        free_dimension = d;
    }
    // A free batch in front of a fixed length is one recording; only a free length takes all of it.
    const bool whole = free_dimension < shape.size() && (known == 1 || free_dimension != 0);
    if (known == 0 || (is_integer(info.type) && bit_width(info.type) < 8) || info.type == ElementType::string) {
        throw input_error(fmt::format("input '{}' doesn't take a recording", info.name),
                          {.expected = "floating or integer samples",
                           .found = fmt::format("{}{}", to_string(info.type), to_string(info.shape)),
                           .advice = "compute the features first and give them as .npy"});
    }
    const Recording recording = decode(content, name);
    if (rate != nullptr) *rate = recording.rate;
    if (options.sample_rate && *options.sample_rate != recording.rate) {
        throw input_error(fmt::format("the recording '{}' has another sample rate", name),
                          {.expected = fmt::format("{} Hz", *options.sample_rate),
                           .found = fmt::format("{} Hz", recording.rate),
                           .advice = fmt::format("resample it first, e.g. `ffmpeg -i in.wav -ar {} out.wav`", *options.sample_rate)});
    }
    if (whole) shape[free_dimension] = static_cast<std::int64_t>(recording.samples.size() / known);
    const std::size_t length = element_count(shape);
    if (length == 0) throw input_error(fmt::format("the recording '{}' is shorter than one row of input '{}'", name, info.name));
    if (options.frame > 0 && options.frame * length >= recording.samples.size()) {
        throw input_error(
            fmt::format("frame {} starts after the end of '{}'", options.frame, name),
            {.expected = fmt::format("0 to {}", (recording.samples.size() - 1) / length), .found = std::to_string(options.frame), .advice = {}});
    }
    Tensor tensor(info.type, shape);
    const double scale =
        is_integer(info.type) && info.type != ElementType::boolean ? std::ldexp(1.0, static_cast<int>(bit_width(info.type)) - 1) - 1 : 1;
    const double offset = info.type == ElementType::u8 ? 128 : 0;
    for (std::size_t i = 0; i < length; ++i) {
        const std::size_t at = options.frame * length + i;
        store(tensor, i, (at < recording.samples.size() ? recording.samples[at] : 0.0F) * scale + offset);
    }
    return tensor;
}

}  // namespace ai_vmm::cli
