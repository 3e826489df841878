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

bool is_number(const Cell& cell) {
    return std::holds_alternative<double>(cell) || std::holds_alternative<std::int64_t>(cell);
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
        std::vector<std::size_t> widths;
        for (const std::string& column : table.columns) widths.push_back(column.size());
        for (const auto& row : table.rows) {
            for (std::size_t i = 0; i < row.size(); ++i) {
                widths[i] = std::max(widths[i], shown(row[i]).size());
            }
        }
        out += fmt::format("\n{}\n", table.name);
        for (std::size_t i = 0; i < widths.size(); ++i) {
            const bool right = !table.rows.empty() && is_number(table.rows.front()[i]);
            out += right ? fmt::format("  {:>{}}", table.columns[i], widths[i])
                         : fmt::format("  {:<{}}", table.columns[i], widths[i]);
        }
        out += '\n';
        for (const auto& row : table.rows) {
            for (std::size_t i = 0; i < row.size(); ++i) {
                out += is_number(row[i]) ? fmt::format("  {:>{}}", shown(row[i]), widths[i])
                                         : fmt::format("  {:<{}}", shown(row[i]), widths[i]);
            }
            out += '\n';
        }
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
