// app/main.cpp: the program.
#include "app/program.h"

int main(int argc, char** argv) {
    return fedit::run_program(argc, argv, fedit::AtomicFile());
}
