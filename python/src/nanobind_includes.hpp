// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>     // IWYU pragma: export
#include <nanobind/stl/string.h>       // IWYU pragma: export
#include <nanobind/stl/string_view.h>  // IWYU pragma: export
#include <nanobind/stl/vector.h>       // IWYU pragma: export

namespace ai_vmm::python {
namespace nb = nanobind;
}
