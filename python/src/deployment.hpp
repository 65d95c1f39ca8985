// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ai_vmm/vmm.hpp"
#include "nanobind_includes.hpp"

namespace ai_vmm::python {

/// One input or output with its name as a Python string, made once.
struct Port {
    nb::object name;
    std::string text;
    ElementType type = ElementType::undefined;
    bool optional = false;
};

/// What Python sees as _core.Deployment. Destroyed under the GIL, which is released while the library ends the deployment.
class PyDeployment {
public:
    explicit PyDeployment(std::shared_ptr<Deployment> deployment);
    PyDeployment(const PyDeployment&) = delete;
    PyDeployment& operator=(const PyDeployment&) = delete;
    ~PyDeployment();

    [[nodiscard]] const std::shared_ptr<Deployment>& get() const noexcept { return deployment_; }
    [[nodiscard]] const std::vector<Port>& inputs() const noexcept { return inputs_; }
    [[nodiscard]] const std::vector<Port>& outputs() const noexcept { return outputs_; }

private:
    std::shared_ptr<Deployment> deployment_;
    std::vector<Port> inputs_;
    std::vector<Port> outputs_;
};

void bind_deployment(nb::module_& module);

}  // namespace ai_vmm::python
