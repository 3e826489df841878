# Turns on the CUDA language for FEDIT_CUDA=ON: the toolkit, its C++20, the architectures, and the
# flags of device code. Without FEDIT_CUDA nothing here is read, and no toolkit is needed.

# Machine code for A100 and H100, and PTX that the driver compiles for later cards when
# it first meets it.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "80-real;90-real;90-virtual"
    CACHE STRING "Architectures of device code")
endif()
# One runtime for us and for the toolkit's libraries.
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)

include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(FATAL_ERROR "FEDIT_CUDA is ON, but there is no nvcc: install the CUDA 13 toolkit and put "
    "its bin folder into PATH (or set CUDACXX), or configure without FEDIT_CUDA.")
endif()
enable_language(CUDA)
# CMake before 3.25.2 does not know that nvcc has C++20, and device code inherits
# CMAKE_CXX_STANDARD.
if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
find_package(CUDAToolkit 13 REQUIRED)
