// app/sheet.h: facts and tables that are printed for people or as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace fedit {

/// A double that is not finite counts as absent: "-" in text, null in JSON.
using Cell = std::variant<std::string, std::int64_t, double, std::vector<std::string>>;

/// Named facts, then named tables, in the order added.
class Sheet {
public:
    void fact(std::string name, Cell value);
    /// Rows have one cell a column.
    void table(std::string name, std::vector<std::string> columns,
               std::vector<std::vector<Cell>> rows);

    std::string text() const;  ///< aligned columns
    /// One object: facts as members, tables as arrays of objects.
    std::string json() const;

private:
    struct Table {
        std::string name;
        std::vector<std::string> columns;
        std::vector<std::vector<Cell>> rows;
    };
    std::vector<std::pair<std::string, Cell>> facts_;
    std::vector<Table> tables_;
};

}  // namespace fedit
