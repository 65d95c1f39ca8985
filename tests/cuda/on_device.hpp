// SPDX-License-Identifier: Apache-2.0
/// Fixtures of tests on a GPU. They skip, saying so, where there is none.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "cuda/host_device.hpp"
#include "cuda/trial.hpp"

namespace ai_vmm::cuda::test {

class OnDevice : public testing::Test {
protected:
    void SetUp() override {
        std::string missing;
        device_ = first_gpu(missing);
        if (!device_) GTEST_SKIP() << missing;
    }

    std::shared_ptr<Device> device_;
};

/// With the processor beside it, which computes what is expected.
class OnDeviceAndHost : public OnDevice {
protected:
    void SetUp() override {
        OnDevice::SetUp();
        if (IsSkipped()) return;
        if (const std::string missing = host_compiler_missing(); !missing.empty()) GTEST_SKIP() << missing;
        host_ = std::make_shared<HostDevice>();
    }

    std::shared_ptr<HostDevice> host_;
};

}  // namespace ai_vmm::cuda::test
