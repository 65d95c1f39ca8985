// SPDX-License-Identifier: Apache-2.0
// Sends many executions at once, with a time-out each, and waits for the answers. Usage: async MODEL
#include <ai_vmm/ai_vmm.hpp>
#include <chrono>
#include <future>
#include <iostream>
#include <vector>

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: async MODEL\n";
        return 2;
    }
    try {
        ai_vmm::VMM vmm;
        auto model = vmm.deploy(argv[1], {.goal = ai_vmm::Goal::throughput});
        ai_vmm::TensorMap inputs;
        for (const ai_vmm::TensorInfo& info : model->inputs()) {
            ai_vmm::Shape shape = info.shape;
            for (std::int64_t& size : shape) size = size < 0 ? 1 : size;
            inputs.set(info.name, ai_vmm::Tensor(info.type, shape));
        }
        std::vector<std::future<ai_vmm::TensorMap>> answers;
        for (int i = 0; i < 100; ++i) answers.push_back(model->execute_async(inputs, {.timeout = std::chrono::seconds(30)}));
        std::size_t count = 0;
        for (auto& answer : answers) count += answer.get().size() > 0 ? 1 : 0;
        std::cout << count << " answers, median " << model->metrics().latency_p50_ms << " ms\n";
        return count == answers.size() ? 0 : 1;
    } catch (const ai_vmm::Error& error) {
        std::cerr << "error: " << error.what() << '\n';
        return 1;
    }
}
