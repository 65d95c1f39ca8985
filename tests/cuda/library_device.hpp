// SPDX-License-Identifier: Apache-2.0
/// A HostDevice with libraries: products, convolutions and attention by plain loops over the strides that their specifications give. Shows what a
/// schedule is where cuBLASLt and cuDNN are, and that what it hands them is right.
#pragma once

#include <functional>
#include <variant>
#include <vector>

#include "cuda/host_device.hpp"
#include "program/schedule.hpp"

namespace ai_vmm::cuda::test {

class LibraryDevice : public HostDevice {
public:
    LibraryDevice();
    using Device::make;
    [[nodiscard]] std::unique_ptr<LibraryCall> make(const MatmulSpec& spec) override;
    [[nodiscard]] std::unique_ptr<LibraryCall> make(const ConvolutionSpec& spec) override;
    [[nodiscard]] std::unique_ptr<LibraryCall> make(const AttentionSpec& spec) override;

    /// Whether attention of a specification is taken. Default: all in f16 and bf16, as cuDNN's.
    std::function<bool(const AttentionSpec&)> takes_attention;
    /// Whether a convolution that could be taken is. Default: all.
    std::function<bool(const ConvolutionSpec&)> takes_convolution;
    /// What was made, in order: equal ones of a network once, and each of its convolutions of integers once more before.
    std::vector<MatmulSpec> matmuls;
    std::vector<ConvolutionSpec> convolutions;
    std::vector<AttentionSpec> attentions;
};

/// Specifications of the library's steps that a schedule runs, in order.
template <typename Spec>
std::vector<Spec> specs_of(const Schedule& schedule) {
    std::vector<Spec> found;
    for (const Step& step : schedule.steps) {
        if (step.kind != Step::Kind::library) continue;
        if (const auto* spec = std::get_if<Spec>(&schedule.specs.at(step.index))) found.push_back(*spec);
    }
    return found;
}

/// A device with the schedule of a GPU with tensor cores, whose kernels run on the processor in their plain form.
class WithTensorCores : public LibraryDevice {
public:
    WithTensorCores() : capabilities_(LibraryDevice::capabilities()) { capabilities_.compute_major = 9; }
    [[nodiscard]] const Capabilities& capabilities() const noexcept override { return capabilities_; }

private:
    Capabilities capabilities_;
};

}  // namespace ai_vmm::cuda::test
