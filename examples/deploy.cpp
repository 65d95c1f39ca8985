// SPDX-License-Identifier: Apache-2.0
// Deploys a model and runs it once. Usage: deploy MODEL
#include <ai_vmm/ai_vmm.hpp>
#include <iostream>

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: deploy MODEL\n";
        return 2;
    }
    try {
        ai_vmm::VMM vmm;  // finds the hardware
        auto model = vmm.deploy(argv[1], {.max_latency_ms = 1000});

        ai_vmm::TensorMap inputs;
        for (const ai_vmm::TensorInfo& info : model->inputs()) {
            ai_vmm::Shape shape = info.shape;
            for (std::int64_t& size : shape) size = size < 0 ? 1 : size;
            inputs.set(info.name, ai_vmm::Tensor(info.type, shape));
        }
        const ai_vmm::TensorMap outputs = model->execute(inputs);

        const ai_vmm::DeploymentDescription description = model->describe();
        std::cout << description.name << " runs on " << description.device << " with " << description.engine << " at " << description.precision
                  << '\n';
        for (const auto& [name, tensor] : outputs) {
            std::cout << name << ": " << ai_vmm::to_string(tensor.type()) << " " << ai_vmm::to_string(tensor.shape()) << '\n';
        }
    } catch (const ai_vmm::Error& error) {
        std::cerr << "error: " << error.what() << '\n';
        return 1;
    }
}
