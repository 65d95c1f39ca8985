// SPDX-License-Identifier: Apache-2.0
#include "libraries/tuning.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <random>

#include "ai_vmm/error.hpp"
#include "base/log.hpp"

namespace ai_vmm::cuda {
namespace {

/// A random element: sign and mantissa at random, the exponent that of 1/2.
std::uint64_t random_bits(Type type, std::mt19937_64& random) {
    const std::uint64_t value = random();
    switch (type) {
        case Type::f64: return (value & 0x800FFFFFFFFFFFFFU) | 0x3FE0000000000000U;
        case Type::f32: return (value & 0x807FFFFFU) | 0x3F000000U;
        case Type::f16: return (value & 0x83FFU) | 0x3800U;
        case Type::bf16: return (value & 0x807FU) | 0x3F00U;
        case Type::f8e4m3: return (value & 0x87U) | 0x30U;
        case Type::f8e5m2: return (value & 0x83U) | 0x38U;
        default: return value;
    }
}

constexpr std::int64_t kPatternElements = 1 << 16;
constexpr double kRecordedUs = 500;  // long enough that the clock's resolution does not count
constexpr int kRecordedRuns = 20;

std::unique_ptr<RecordedGraph> record(Stream& stream, const std::function<void()>& run, int runs) {
    stream.begin_recording();
    try {
        for (int i = 0; i < runs; ++i) run();
    } catch (...) {
        try {
            (void)stream.end_recording();
        } catch (const Error&) {  // what made the run fail is what counts
        }
        throw;
    }
    return stream.end_recording();
}

}  // namespace

Scratch::Scratch(Device& device, Stream& stream, std::span<const BufferExtent> extents, std::size_t workspace_bytes) : device_(device) {
    try {
        for (const BufferExtent& extent : extents) {
            addresses_.push_back(device.allocate(static_cast<std::size_t>(extent.elements * bits(extent.type) / 8)));
            fill(stream, addresses_.back(), extent);
        }
        workspace_ = device.allocate(workspace_bytes);
    } catch (...) {
        release();
        throw;
    }
}

Scratch::~Scratch() { release(); }

void Scratch::release() noexcept {
    for (const DevicePtr address : addresses_) {
        if (address != 0) device_.release(address);
    }
    if (workspace_ != 0) device_.release(workspace_);
}

void Scratch::fill(Stream& stream, DevicePtr to, const BufferExtent& extent) {
    const auto size = static_cast<std::size_t>(bits(extent.type) / 8);
    const std::size_t total = static_cast<std::size_t>(extent.elements) * size;
    std::size_t done = std::min(total, static_cast<std::size_t>(kPatternElements) * size);
    if (done == 0) return;
    std::vector<std::byte> pattern(done);
    std::mt19937_64 random(42);
    for (std::size_t i = 0; i < done; i += size) {
        const std::uint64_t value = random_bits(extent.type, random);
        std::memcpy(pattern.data() + i, &value, size);
    }
    stream.upload(to, pattern.data(), done);
    stream.synchronize();
    while (done < total) {
        const std::size_t more = std::min(done, total - done);
        stream.copy(to + done, to, more);
        done += more;
    }
}

double measure_us(Device& device, Stream& stream, const std::function<void()>& run, double hopeless_us) {
    run();
    (void)stream.lap_us();
    run();
    const double once = stream.lap_us();
    if (once > hopeless_us) return once;
    const int runs = std::clamp(static_cast<int>(kRecordedUs / std::max(once, 1.0)), 1, kRecordedRuns);
    double best = std::numeric_limits<double>::max();
    if (device.capabilities().recording) {
        const auto graph = record(stream, run, runs);
        stream.launch(*graph);
        for (int i = 0; i < 3; ++i) {
            (void)stream.lap_us();
            stream.launch(*graph);
            best = std::min(best, stream.lap_us() / runs);
        }
        return best;
    }
    for (int i = 0; i < 3; ++i) {
        (void)stream.lap_us();
        for (int j = 0; j < runs; ++j) run();
        best = std::min(best, stream.lap_us() / runs);
    }
    return best;
}

std::optional<int> fastest(Device& device, const Tuning& tuning, std::span<const BufferExtent> extents, int count,
                           const std::function<std::optional<PreparedCandidate>(int)>& prepare) {
    const auto stream = device.create_stream();
    (void)stream->native();
    const Scratch scratch(device, *stream, extents, tuning.workspace_limit_bytes);
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(tuning.limit_ms);
    std::optional<int> best;
    double best_us = std::numeric_limits<double>::max();
    int tried = 0;
    for (int i = 0; i < count && tried < tuning.candidates; ++i) {
        if (best && std::chrono::steady_clock::now() > end) break;
        try {
            const auto candidate = prepare(i);
            if (!candidate || candidate->workspace_bytes > tuning.workspace_limit_bytes) continue;
            ++tried;
            // What a launch by itself costs, some 20 us, is in the first run's time.
            const double us = measure_us(
                device, *stream, [&] { candidate->run(*stream, scratch.buffers(), scratch.workspace()); }, 2 * best_us + 50);
            base::log_debug(fmt::format("candidate {}: {:.2f} us", i, us));
            if (us < best_us) {
                best_us = us;
                best = i;
            }
        } catch (const Error& error) {
            if (!device.failure().empty()) throw;
            base::log_debug(std::string("candidate ") + std::to_string(i) + " is left out: " + error.what());
        }
    }
    return best;
}

}  // namespace ai_vmm::cuda
