"""What a workbook holds that its conversion doesn't show."""
