// SPDX-License-Identifier: Apache-2.0
#include "gpu.hpp"

#include <future>
#include <system_error>
#include <utility>

#include "ai_vmm/error.hpp"
#include "base/log.hpp"
#include "driver/choice_store.hpp"
#include "driver/driver_device.hpp"
#include "driver/nvrtc.hpp"
#include "libraries/library_files.hpp"
#include "libraries/vendor_libraries.hpp"

namespace ai_vmm::cuda {
namespace {

class Gpu final : public DriverDevice {
    template <typename Spec>
    auto made(const Spec& spec) {
        make_current();
        return libraries_->make(spec);
    }

public:
    /// @param files  the libraries' files are being opened
    Gpu(int ordinal, std::future<void> files) : DriverDevice(ordinal), files_(std::move(files)) {
        const auto store = std::make_shared<const ChoiceStore>(capabilities(), driver_version());
        libraries_ = std::make_unique<VendorLibraries>(
            *this, true,
            KeptChoices{[store](const std::string& specification) { return store->find(specification); },
                        [store](const std::string& specification, const std::string& choice) { store->keep(specification, choice); }});
    }
    ~Gpu() override {
        try {
            make_current();       // the libraries' handles are closed in their context
        } catch (const Error&) {  // a device that failed: closing them does nothing
        }
        libraries_.reset();
    }

    [[nodiscard]] std::unique_ptr<LibraryCall> make(const MatmulSpec& spec) override { return made(spec); }
    [[nodiscard]] std::unique_ptr<LibraryCall> make(const ConvolutionSpec& spec) override { return made(spec); }
    [[nodiscard]] std::unique_ptr<LibraryCall> make(const AttentionSpec& spec) override { return made(spec); }
    [[nodiscard]] std::unique_ptr<RecurrentCall> make(const RecurrentSpec& spec) override { return made(spec); }
    [[nodiscard]] bool takes(const ConvolutionSpec& spec) override {
        make_current();
        return libraries_->takes(spec);
    }
    void warm_up() noexcept override {
        const auto quietly = [this](const auto& work) {
            try {
                make_current();
                work();
            } catch (const std::exception& error) {
                base::log_debug(std::string("cuda: not opened ahead: ") + error.what());
            }
        };
        try {
            const auto cudnn = std::async(std::launch::async, [&] { quietly([&] { libraries_->open_cudnn(); }); });
            const auto compiler = std::async(std::launch::async, [&] { quietly([] { (void)Nvrtc::get(); }); });
            quietly([&] { libraries_->open_cublaslt(); });
        } catch (const std::system_error&) {  // no thread: they are opened when they are needed
        }
    }
    [[nodiscard]] std::string choices() const override { return libraries_->choices(); }
    void add_choices(std::string_view bytes) override { (void)libraries_->add_choices(bytes); }

private:
    std::future<void> files_;
    std::unique_ptr<VendorLibraries> libraries_;
};

}  // namespace

std::shared_ptr<Device> open_gpu(int ordinal) {
    // Their files are read and linked while the driver makes the context, which takes as long.
    std::future<void> files;
    try {
        files = std::async(std::launch::async, [] { (void)cudnn_file(); });
    } catch (const std::system_error&) {  // no thread: they are opened when they are needed
    }
    return std::make_shared<Gpu>(ordinal, std::move(files));
}

}  // namespace ai_vmm::cuda
