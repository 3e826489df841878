// tests/support/mpi_test_main.cpp: main of a parallel test. Rank 0 prints what passes, every rank
// what fails; the result is the worst of all ranks; a program that ran no test has failed.
#include "tests/support/mpi_test_main.h"

#include <gtest/gtest.h>

#include <chrono>
#include <iostream>
#include <sstream>

#include "tests/support/shared_data.h"

namespace {

fedit::Communicator* the_world = nullptr;

/// What ranks other than 0 print: their failures only.
class FailurePrinter final : public testing::EmptyTestEventListener {
public:
    explicit FailurePrinter(int rank) : rank_(rank) {}

private:
    void OnTestPartResult(const testing::TestPartResult& result) override {
        if (!result.failed()) return;
        std::ostringstream text;  // one write, so that the lines of several ranks do not mix
        text << "[ rank " << rank_ << " ] ";
        if (result.file_name() != nullptr)
            text << result.file_name() << ":" << result.line_number();
        text << "\n" << result.message() << "\n";
        std::cout << text.str() << std::flush;
    }

    void OnTestEnd(const testing::TestInfo& test) override {
        if (!test.result()->Failed()) return;
        std::ostringstream text;
        text << "[ rank " << rank_ << " ] failed: " << test.test_suite_name() << "." << test.name()
             << "\n";
        std::cout << text.str() << std::flush;
    }

    int rank_;
};

int run_tests(fedit::Communicator& world) {
    the_world = &world;
    if (world.rank() != 0) {
        auto& listeners = testing::UnitTest::GetInstance()->listeners();
        delete listeners.Release(listeners.default_result_printer());
        listeners.Append(new FailurePrinter(world.rank()));  // owned by the listeners
    }
    int result = RUN_ALL_TESTS();
    if (testing::UnitTest::GetInstance()->test_to_run_count() == 0) result = 1;
    return static_cast<int>(world.max(result));
}

}  // namespace

fedit::Communicator& fedit::test::world() {
    return *the_world;
}

std::filesystem::path fedit::test::folder_of_ranks(
    const std::string& name, const std::function<void(const std::filesystem::path&)>& fill) {
    const std::filesystem::path folder = std::filesystem::absolute(name);
    if (world().rank() == 0) {
        fresh_folder(folder.string());
        if (fill) fill(folder);
    }
    world().barrier();
    return folder;
}

int main(int argc, char** argv) {
    fedit::MpiSession mpi(argc, argv);
    testing::InitGoogleTest(&argc, argv);
    GTEST_FLAG_SET(catch_exceptions, false);  // else the rank goes on and strands the others
    try {
        auto world = fedit::Communicator::world(mpi);
        world.set_hang_timeout(std::chrono::seconds(40));  // below the limit that CTest sets
        return run_tests(world);
    } catch (const std::exception& error) {
        const auto* test = testing::UnitTest::GetInstance()->current_test_info();
        std::ostringstream text;
        text << "[ threw  ] " << (test == nullptr ? "main" : test->name()) << ": " << error.what()
             << "\n";
        std::cerr << text.str() << std::flush;
        mpi.abort(1);
    }
}
