# fedit_add_library(NAME SOURCES ... [PUBLIC libs] [PRIVATE libs]): the library of one folder of
# src/. PUBLIC names the folders to the left that its headers use; PRIVATE names vendor libraries.
function(fedit_add_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(fedit_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(fedit_${name} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
  target_include_directories(fedit_${name}
    PUBLIC "${PROJECT_SOURCE_DIR}/include"
    PRIVATE "${PROJECT_SOURCE_DIR}/src")
  fedit_compile_options(fedit_${name})
endfunction()

# Flags that every target of ours is built with. No contraction: the server step must have the same
# bits on every machine; kernels that want fused multiply-add say so themselves. -Wrestrict is off:
# GCC 12 sees overlaps in std::string's operator+ that are not there (GCC bug 105651). Device code
# is compiled with line numbers for the tools, and a kernel that spills registers is a warning.
function(fedit_compile_options target)
  set(cxx_options -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion
    $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict> -Wnon-virtual-dtor -Woverloaded-virtual
    -ffp-contract=off $<$<BOOL:${FEDIT_WARNINGS_AS_ERRORS}>:-Werror>)
  set(cuda_options -lineinfo -Xcompiler=-Wall,-Wextra,-ffp-contract=off -Xptxas=-warn-spills
    $<$<BOOL:${FEDIT_WARNINGS_AS_ERRORS}>:-Werror=all-warnings>)
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CXX>:${cxx_options}>" "$<$<COMPILE_LANGUAGE:CUDA>:${cuda_options}>")
  if(FEDIT_SANITIZE)
    target_compile_options(${target} PRIVATE
      $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${FEDIT_SANITIZE}>
      $<$<COMPILE_LANGUAGE:CXX>:-fno-omit-frame-pointer>)
    target_link_options(${target} PUBLIC -fsanitize=${FEDIT_SANITIZE})
  endif()
endfunction()
