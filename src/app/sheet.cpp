// app/sheet.cpp: lays out facts and tables.
#include "app/sheet.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "fedit/io/json.h"

namespace fedit {
namespace {

template <class... Functions>
struct Overloaded : Functions... {
    using Functions::operator()...;
};
template <class... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;  // clang 14 does not find it by itself

std::string shown(const Cell& cell) {
    return std::visit(
        Overloaded{
            [](const std::string& text) { return text; },
            [](std::int64_t value) { return fmt::format("{}", value); },
            [](double value) { return std::isfinite(value) ? fmt::format("{:.6g}", value) : "-"; },
            [](const std::vector<std::string>& texts) {
                return fmt::format("{}", fmt::join(texts, ", "));
            }},
        cell);
}

void set(JsonWriter& out, const std::string& name, const Cell& cell) {
    std::visit(Overloaded{[&](double value) {
                              std::isfinite(value) ? out.set(name, value) : out.set_null(name);
                          },
                          [&](const auto& value) { out.set(name, value); }},
               cell);
}

/// How wide a table's column is, and to which side its cells go: numbers to the right.
struct Column {
    std::size_t width = 0;
    bool right = false;
};

void measure(std::vector<Column>& columns, const std::vector<Cell>& row) {
    for (std::size_t i = 0; i < row.size(); ++i) {
        columns[i].width = std::max(columns[i].width, shown(row[i]).size());
        columns[i].right = columns[i].right || std::holds_alternative<double>(row[i]) ||
                           std::holds_alternative<std::int64_t>(row[i]);
    }
}

std::string line(const std::vector<Column>& columns, const std::vector<Cell>& row) {
    std::string out;
    for (std::size_t i = 0; i < row.size(); ++i) {
        out += columns[i].right ? fmt::format("  {:>{}}", shown(row[i]), columns[i].width)
                                : fmt::format("  {:<{}}", shown(row[i]), columns[i].width);
    }
    out.erase(out.find_last_not_of(' ') + 1);
    return out + '\n';
}

}  // namespace

void Sheet::fact(std::string name, Cell value) {
    facts_.emplace_back(std::move(name), std::move(value));
}

void Sheet::table(std::string name, std::vector<std::string> columns,
                  std::vector<std::vector<Cell>> rows) {
    tables_.push_back({std::move(name), std::move(columns), std::move(rows)});
}

std::string Sheet::text() const {
    std::size_t widest = 0;
    for (const auto& [name, value] : facts_) widest = std::max(widest, name.size());
    std::string out;
    for (const auto& [name, value] : facts_) {
        out += fmt::format("{:<{}}  {}\n", name, widest, shown(value));
    }
    for (const Table& table : tables_) {
        std::vector<Cell> titles(table.columns.begin(), table.columns.end());
        std::vector<Column> columns(titles.size());
        for (const auto& row : table.rows) measure(columns, row);
        measure(columns, titles);
        out += fmt::format("\n{}\n{}", table.name, line(columns, titles));
        for (const auto& row : table.rows) out += line(columns, row);
    }
    return out;
}

std::string Sheet::json() const {
    JsonWriter out;
    for (const auto& [name, value] : facts_) set(out, name, value);
    for (const Table& table : tables_) {
        std::vector<JsonWriter> rows(table.rows.size());
        for (std::size_t r = 0; r < rows.size(); ++r) {
            for (std::size_t i = 0; i < table.columns.size(); ++i) {
                set(rows[r], table.columns[i], table.rows[r][i]);
            }
        }
        out.set(table.name, rows);
    }
    return out.text(2) + '\n';
}

}  // namespace fedit
